import threading
import time
from types import SimpleNamespace

import pytest

from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.audio.files import AudioError
from vocalsep_jax.separation.stem_files import Separated
from vocalsep_jax.web.jobs import Jobs, Limits, RefusedError, Wish
from vocalsep_jax.web.storage import Storage

LIMITS = Limits(seconds=100, waiting=3, songs=4, keep=60)
WISH = Wish("model", Encoding())


class FakeSeparator:
    """Takes as long as it is told to, second by second."""

    def __init__(self):
        self.steps = threading.Semaphore(0)
        self.songs = []

    def separate_to(self, path, outputs, *, encoding, start, duration, progress):
        content = path.read_text()
        self.songs.append((content, encoding, start, duration))
        if content == "damaged":
            raise AudioError(f"{path}: not readable as audio")
        if content == "trouble":
            raise ZeroDivisionError
        for done in range(10):
            progress(done, 1000 if content == "long" else 10)
            self.steps.acquire()
        progress(10, 10)
        for stem, output in outputs.items():
            output.write_text(f"{stem} of {content}")
        return Separated(10, 1, 2)


@pytest.fixture
def place(tmp_path):
    storage = Storage(10_000, tmp_path)
    separator = FakeSeparator()
    jobs = Jobs(lambda model: separator, storage, LIMITS)
    yield SimpleNamespace(storage=storage, separator=separator, jobs=jobs)
    separator.steps.release(10_000)
    jobs.stop()
    storage.close()


def bring(place, content, session="me", wish=WISH):
    song = place.storage.uploads / f"{content}.wav"
    song.write_text(content)
    return place.jobs.submit(session, song, content, wish)


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_songs_are_separated_one_after_the_other(place):
    wish = Wish("model", Encoding("flac", "int24"), 1.5, 3.0)
    a, b, c = bring(place, "a"), bring(place, "b", wish=wish), bring(place, "c")
    wait_for(lambda: a.state == "working" and a.total == 10)
    assert (b.state, c.state) == ("waiting", "waiting")
    assert [place.jobs.place(job) for job in (a, b, c)] == [0, 1, 2]
    place.separator.steps.release(10)
    wait_for(lambda: b.state == "working")
    assert (a.state, a.done, place.jobs.place(c)) == ("done", 10, 1)
    assert a.outputs["vocals"].read_text() == "vocals of a"
    place.separator.steps.release(20)
    wait_for(lambda: c.state == "done")
    assert place.separator.songs == [
        ("a", Encoding(), 0.0, None),
        ("b", Encoding("flac", "int24"), 1.5, 3.0),
        ("c", Encoding(), 0.0, None),
    ]
    assert b.outputs["no_vocals"].name == "no_vocals.flac"


def test_what_fails_says_why_and_the_next_goes_on(place):
    jobs = [bring(place, content) for content in ("damaged", "trouble", "long")]
    wait_for(lambda: jobs[-1].ended)
    assert [job.state for job in jobs] == ["failed"] * 3
    assert [job.message for job in jobs] == [
        "not readable as audio",
        "this did not work; the terminal of the server tells why",
        "longer than 1.66667 min, which is the most here; choose a part of it",
    ]
    assert not any(job.song.exists() for job in jobs)
    good = bring(place, "good")
    place.separator.steps.release(10)
    wait_for(lambda: good.state == "done")


def test_what_is_removed_is_cancelled_and_leaves_nothing(place):
    a, b = bring(place, "a"), bring(place, "b")
    wait_for(lambda: a.state == "working")
    place.jobs.remove([b])
    assert b.state == "cancelled"
    assert not b.folder.exists()
    place.jobs.remove([a])
    place.separator.steps.release(1)
    wait_for(lambda: a.state == "cancelled" and not a.folder.exists())
    assert place.jobs.find(a.key) is None
    c = bring(place, "c")
    place.separator.steps.release(10)
    wait_for(lambda: c.state == "done")
    place.jobs.remove([c])
    assert not c.folder.exists()


def test_users_have_their_own(place):
    mine, theirs = bring(place, "a", "me"), bring(place, "b", "them")
    assert place.jobs.of("me") == [mine]
    place.jobs.remove(place.jobs.of("me"))
    assert place.jobs.of("them") == [theirs]
    assert place.jobs.find(theirs.key) is theirs


def test_there_is_an_end_to_what_is_taken(place):
    first = bring(place, "0")
    wait_for(lambda: first.state == "working")
    for n in range(1, 4):
        bring(place, str(n), f"user {n}")
    with pytest.raises(RefusedError, match="too many songs are waiting"):
        bring(place, "4", "user 4")
    place.separator.steps.release(40)
    wait_for(lambda: all(job.ended for n in range(1, 4) for job in place.jobs.of(f"user {n}")))
    mine = [bring(place, f"mine {n}") for n in range(3)]
    wait_for(lambda: mine[0].state == "working")  # and does not wait any more
    with pytest.raises(RefusedError, match="no more than 4 songs at a time"):
        bring(place, "mine 3")
    assert len(mine) == 3
    (place.storage.uploads / "large").write_bytes(b"x" * 10_000)
    with pytest.raises(RefusedError, match="no room for more songs"):
        bring(place, "other", "other")


def test_a_file_that_is_gone(place):
    with pytest.raises(RefusedError, match="add it again"):
        place.jobs.submit("me", place.storage.uploads / "none.wav", "none", WISH)
    assert place.jobs.of("me") == []
    assert list((place.storage.folder / "songs").iterdir()) == []


def test_a_full_disk_ends_a_song(place, monkeypatch):
    monkeypatch.setattr("vocalsep_jax.web.jobs._CHECK_STORAGE", -1.0)
    song = bring(place, "a")
    wait_for(lambda: song.state == "working")
    (place.storage.uploads / "large").write_bytes(b"x" * 10_000)
    place.separator.steps.release(1)
    wait_for(lambda: song.ended)
    assert (song.state, "no room" in song.message) == ("failed", True)


def test_old_songs_are_removed(place, monkeypatch):
    song = bring(place, "a")
    place.separator.steps.release(10)
    wait_for(lambda: song.state == "done")
    place.jobs.remove_old()
    assert place.jobs.find(song.key) is song
    song.ended -= LIMITS.keep + 1
    place.jobs.remove_old()
    assert place.jobs.find(song.key) is None
    assert not song.folder.exists()


def test_nothing_is_taken_after_the_end(place):
    place.jobs.stop()
    with pytest.raises(RefusedError, match="being stopped"):
        bring(place, "a")
