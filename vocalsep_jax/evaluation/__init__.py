"""Scores of separated songs whose stems are known."""
