"""The only room that speaks SQL: what was recorded is kept here, and read back as it was."""
