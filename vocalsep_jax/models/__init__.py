"""The network: what it sees, its convolutions, the U-Net."""

DTYPES = ("float32", "bfloat16")
"""Of a network's activations. Here, where naming them takes no JAX."""
