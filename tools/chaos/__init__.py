"""Trainings that are disturbed: their processes, what happens to them, and how they end."""
