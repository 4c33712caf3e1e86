import pytest

from tests.small_network import small_network


@pytest.fixture(scope="module")
def _small_network():
    """While this is used, the network of a config is `tests.small_network.TwoLayers`."""
    with small_network():
        yield
