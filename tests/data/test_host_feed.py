import numpy as np
import pytest

from tests.data.small import RECIPE
from vocalsep_jax.data.crops import Batch, Crops
from vocalsep_jax.data.host_feed import HostFeed
from vocalsep_jax.runtime.data_parallel import DataParallel

pytest.importorskip("tensorflow", reason="needs the train extra")


def test_a_batch_is_sent_while_the_one_before_it_is_in_use(stores, monkeypatch):
    parallel, sent = DataParallel(), []
    feed = HostFeed(stores, RECIPE, parallel)
    monkeypatch.setattr(parallel, "shard", lambda batch: sent.append(batch) or len(sent))
    work = feed.training(0, 4, lambda step: step + 1)
    assert [(next(work).batch, len(sent)) for _ in range(4)] == [(1, 2), (2, 3), (3, 4), (4, 4)]
    assert next(work, None) is None


def test_a_step_is_a_call_whatever_is_due(stores):
    feed = HostFeed(stores, RECIPE, DataParallel())
    assert [work.steps for work in feed.training(3, 6, lambda step: 6)] == [1, 1, 1]
    assert list(feed.training(6, 6, lambda step: 6)) == []


@pytest.mark.parametrize(("stft_on", "kind"), [("host", Batch), ("device", Crops)])
def test_what_is_sent_is_patches_or_the_crops_to_make_them_of(stores, stft_on, kind):
    feed = HostFeed(stores, RECIPE, DataParallel(), stft_on)
    for work in (next(feed.validation()), feed.example("train")):
        assert isinstance(work.batch, kind)
        assert work.shared == ()
    assert work.batch.vocals.dtype == (np.float32 if kind is Batch else np.int16)
