"""What was found of a model, and what is in place. Pure."""
