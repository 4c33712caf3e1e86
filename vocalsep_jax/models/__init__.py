"""The separation networks."""
