"""Fuzz of the separation command: generated calls, each checked for what the command promises."""
