"""Fuzz of what is read besides songs to separate: configs, runs, models, song folders, caches."""
