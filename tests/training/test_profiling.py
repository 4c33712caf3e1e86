import jax.numpy as jnp
import pytest

from vocalsep_jax.training import profiling
from vocalsep_jax.training.profiling import Profile


@pytest.fixture
def traces(monkeypatch):
    """What was asked of the profiler, after how many calls."""
    asked = []
    monkeypatch.setattr(profiling.jax.profiler, "start_trace", lambda folder: asked.append(folder))
    monkeypatch.setattr(profiling.jax.profiler, "stop_trace", lambda: asked.append("stop"))
    return asked


def test_it_traces_so_many_calls_once_they_have_settled(traces, tmp_path, caplog):
    caplog.set_level("INFO")
    with Profile(tmp_path, 3) as profile:
        seen = []
        for _ in range(20):
            profile.called(jnp.zeros(()))
            seen.append(len(traces))
    assert traces == [tmp_path, "stop"]
    assert (seen.index(1), seen.index(2)) == (9, 12)
    assert caplog.messages == [f"a trace of 3 calls of the step: {tmp_path}"]


def test_a_run_that_ends_under_way_ends_the_trace(traces, tmp_path):
    with Profile(tmp_path, 100) as profile:
        for _ in range(12):
            profile.called(jnp.zeros(()))
    assert traces == [tmp_path, "stop"]


@pytest.mark.parametrize(("calls", "steps"), [(0, 30), (5, 8)])
def test_nothing_is_traced_that_was_not_asked_for_or_did_not_come(traces, tmp_path, calls, steps):
    with Profile(tmp_path, calls) as profile:
        for _ in range(steps):
            profile.called(jnp.zeros(()))
    assert traces == []
