import itertools

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.check.conftest import SONG_RATE, fingerprint, tune
from vocalsep_jax.audio import files
from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.audio.resampling import resample
from vocalsep_jax.data.check import matching
from vocalsep_jax.data.check.fingerprint import FRAMES_PER_SECOND, RATE, Fingerprint
from vocalsep_jax.data.check.matching import find_matches

RECORDINGS = ("mixture", "vocals", "accompaniment")


def at_rate(x, rate=SONG_RATE):
    return resample(x.mean(axis=1, keepdims=True), rate, RATE)[:, 0]


def test_different_tunes_do_not_match():
    assert find_matches([fingerprint(at_rate(tune(n))) for n in range(6)]) == []


@pytest.mark.parametrize("how", ["softer", "resampled", "16 bits", "mp3 64"])
def test_an_excerpt_of_a_tune_is_found_in_it(how, tmp_path):
    tunes = [fingerprint(at_rate(tune(n))) for n in range(3)]
    (match,) = find_matches([*tunes, fingerprint(changed(tune(1), how, tmp_path))])
    assert (match.first, match.second) == (1, 3)
    assert match.offset == pytest.approx(5 + 1234 / SONG_RATE, abs=0.06)
    assert match.share == 1


@pytest.fixture(scope="module")
def prints(generated):
    return {name: [fingerprint(at_rate(getattr(x, name))) for x in generated] for name in RECORDINGS}


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDINGS)
def test_different_songs_do_not_match(prints, name):
    assert find_matches(prints[name]) == []


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDINGS)
def test_chance_is_far_from_what_is_asked_for(prints, name):
    """The false-alarm check: the most hashes that agree at one offset of two different songs."""
    most = 0
    for a, b in itertools.combinations(prints[name], 2):
        same = a.hashes[:, None] == b.hashes[None, :]
        query, place = np.nonzero(same)
        if len(query):
            offsets = b.times[place] - a.times[query]
            most = max(most, np.bincount(offsets - offsets.min()).max())
    assert most <= matching._COUNT / 2


def changed(x, how, tmp_path):
    """A song as it may turn up again: `[S, 2]` at SONG_RATE to mono `[S]` at RATE."""
    x = x[5 * SONG_RATE + 1234 :]
    if how == "softer":
        return at_rate(0.1 * x)
    if how == "resampled":
        return at_rate(resample(x, SONG_RATE, 44_100), 44_100)
    if how == "16 bits":
        return at_rate(np.round(x * 2**15).astype(np.float32) / 2**15)
    path = tmp_path / "song.mp3"
    bitrate = int(how.split()[1])
    with files.Writer(path, SONG_RATE, 2, Encoding("mp3", None, bitrate), len(x)) as file:
        file.write(0.5 * x)
    decoded, rate = files.read(path)
    assert rate == SONG_RATE == soundfile.info(path).samplerate
    return at_rate(decoded)


@pytest.mark.parametrize("how", ["softer", "resampled", "16 bits", "mp3 128", "mp3 48"])
@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDINGS)
def test_an_excerpt_of_a_song_is_found_in_it(prints, generated, name, how, tmp_path):
    excerpt = fingerprint(changed(getattr(generated[2], name), how, tmp_path))
    (match,) = find_matches([*prints[name], excerpt])
    assert (match.first, match.second) == (2, 7)
    assert match.offset == pytest.approx(5 + 1234 / SONG_RATE, abs=0.12)
    assert match.seconds >= 5
    assert match.share > 0.5


def test_a_tune_that_repeats_itself_is_found():
    loop = at_rate(tune(1))[: 6 * RATE]
    (match,) = find_matches([fingerprint(np.tile(loop, 10)), fingerprint(np.tile(loop, 8)[5000:])])
    assert match.share == 1


def recording(rng, hashes, frames):
    times = np.sort(rng.integers(0, frames, hashes)).astype(np.int32)
    return Fingerprint(rng.integers(0, 2**24, hashes, dtype=np.uint32), times, frames)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(0, 2000), st.integers(500, 3000))
def test_a_part_is_found_where_it_is(seed, begin, length):
    rng = np.random.default_rng(seed)
    songs = [recording(rng, 20_000, 6000) for _ in range(3)]
    whole = songs[1]
    inside = (whole.times >= begin) & (whole.times < begin + length)
    part = Fingerprint(whole.hashes[inside], whole.times[inside] - begin, length)
    (match,) = find_matches([*songs, part])
    assert (match.first, match.second) == (1, 3)
    assert match.offset == pytest.approx(begin / FRAMES_PER_SECOND)
    assert match.share > 0.8


def test_pairs_are_made_some_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    songs = [Fingerprint(x.hashes % 64, x.times, x.frames) for x in (recording(rng, 3000, 3000),) * 2]
    together = find_matches(songs)
    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", 1000)
    assert find_matches(songs) == together
    assert len(together) == 1


def test_nothing_matches_nothing():
    nothing = Fingerprint(np.zeros(0, np.uint32), np.zeros(0, np.int32), 0)
    assert find_matches([]) == []
    assert find_matches([nothing, nothing]) == []
