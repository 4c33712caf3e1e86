"""TensorFlow as this package uses it: for data and records, on the host, and silent."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # it warns of old processors at every op
import tensorflow as tf

tf.config.set_visible_devices([], "GPU")  # the GPU belongs to JAX

__all__ = ["tf"]
