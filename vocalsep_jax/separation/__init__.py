"""Waveforms and files in, vocals and the rest out."""

MODEL_LICENCE = "Apache-2.0"
"""Of the weights of a model that is given away, unless told otherwise."""
