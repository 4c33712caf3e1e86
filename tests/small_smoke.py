"""`configs/smoke.py` with `TwoLayers`, for the commands: the network is registered as this file is read."""

from configs import smoke
from tests.small_network import TwoLayers
from vocalsep_jax.models.networks import NETWORKS

NETWORKS["two_layers"] = TwoLayers


def get_config():
    config = smoke.get_config()
    config.model.network = "two_layers"
    return config
