import pytest

from tests.data.small import tone_store


@pytest.fixture(scope="session")
def stores():
    """By split, songs longer and shorter than a crop."""
    return {"train": tone_store([20_000, 3000, 5000, 40_000]), "valid": tone_store([16_000, 24_000], 900)}
