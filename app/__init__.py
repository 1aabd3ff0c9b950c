"""aslgate: what protection level a frontier model requires, and whether it is in place."""
