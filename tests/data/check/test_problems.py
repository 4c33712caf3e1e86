import pytest

from vocalsep_jax.data.check.alignment import Alignment
from vocalsep_jax.data.check.files import SongFiles, StemSource
from vocalsep_jax.data.check.meters import Levels
from vocalsep_jax.data.check.problems import KINDS, clock, find_problems
from vocalsep_jax.data.check.song import SongReport

LEVELS = Levels(60.0, 44_100, 2, -3.0, -20.0, -18.0, 0.0, 0, 0, 0.0, 20_000.0, False, -12.0)


def report(path, **values):
    """A song of two stems, of which only some values are known."""
    song = SongFiles("A", "test", path, {"vocals": StemSource(path), "accompaniment": StemSource(path)})
    return SongReport(song, {"vocals": LEVELS, "accompaniment": LEVELS}, **values)


def test_errors_come_first():
    severities = [kind.error for kind in KINDS.values()]
    assert severities == sorted(severities, reverse=True)
    assert len({kind.title for kind in KINDS.values()}) == len(KINDS)


def test_a_song_with_nothing_wrong(tmp_path):
    assert find_problems([report(tmp_path)], []) == []


def test_a_layout_that_is_not_known(tmp_path):
    song = SongReport(SongFiles("A", "test", tmp_path, {}))
    assert [x.kind for x in find_problems([song], [])] == ["unknown_layout"]


@pytest.mark.parametrize(
    ("residual", "correlation", "expected"),
    [
        (-31.0, 1.0, None),
        (-10.0, 0.5, "relative to the mixture"),
        (-10.0, 1.0, "8 samples (0.2 ms) earlier"),
    ],
)
def test_a_mixture_is_explained_if_it_can_be(tmp_path, residual, correlation, expected):
    alignment = Alignment(-8, 1.0, correlation, 0.1)
    song = report(tmp_path, residual_db=residual, alignment=alignment, rate=44_100)
    problems = find_problems([song], [])
    if expected is None:
        assert problems == []
    else:
        (problem,) = problems
        assert problem.kind == "mixture"
        assert expected in problem.reason
        assert ("samples" in problem.reason) == (correlation == 1)


@pytest.mark.parametrize("stems", ["drums", "drums bass", "drums bass other", "accompaniment"])
def test_a_mixture_is_compared_with_a_whole_accompaniment_alone(tmp_path, stems):
    song = report(tmp_path, residual_db=-3.0, alignment=Alignment(0, 1.0, 0.5, 0.5), rate=44_100)
    song.levels = dict.fromkeys(["vocals", "mixture", *stems.split()], LEVELS)
    whole = stems in ("accompaniment", "drums bass other")
    assert [x.kind for x in find_problems([song], [])] == ["mixture"] * whole


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (-5, "-0:05"), (-0.2, "0:00")]
)
def test_clock(seconds, expected):
    assert clock(seconds) == expected
