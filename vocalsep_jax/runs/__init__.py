"""The folder that a run leaves: config, checkpoints, history."""
