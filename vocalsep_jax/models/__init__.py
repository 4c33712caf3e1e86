"""The network: what it sees, its convolutions, the U-Net."""

DTYPES = ("float32", "bfloat16")
"""Dtypes of a network's activations. They are here so that commands can name them without importing JAX."""
