import pytest

from vocalsep_jax.data.feed import Work
from vocalsep_jax.training import clock


@pytest.fixture
def passing(monkeypatch):
    """Lets time pass, which stands still otherwise."""
    now = [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    return passes


def test_waiting_for_work_is_told_from_working(passing):
    def feed():
        for steps in (1, 3):
            passing(0.5)
            yield Work(steps, None)
        passing(4.0)  # to find that there is no more

    watch = clock.Clock()
    steps = []
    for work in watch.waiting(feed()):
        passing(2.0)
        steps.append(work.steps)
    assert steps == [1, 3]
    assert watch.interval() == (9.0, 5.0, 4)


def test_an_interval_starts_where_the_one_before_ends(passing):
    watch = clock.Clock()
    work = watch.waiting(iter([Work(2, None)] * 3))
    next(work)
    passing(3.0)
    assert watch.interval() == (3.0, 0.0, 2)
    next(work)
    next(work)
    passing(1.0)
    assert watch.interval() == (1.0, 0.0, 4)
    assert watch.interval().seconds > 0  # to be divided by
