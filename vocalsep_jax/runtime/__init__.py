"""The machine and the terminal: devices, memory, files on disk, messages. Knows nothing of sound."""
