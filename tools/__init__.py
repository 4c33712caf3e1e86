"""Commands for those who work on or with the project."""
