import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vocalsep_jax.web.storage import Storage, StorageFullError


@pytest.fixture
def storage(tmp_path):
    storage = Storage(1000, tmp_path)
    yield storage
    storage.close()


def test_what_is_used_is_counted_once_for_all_names_of_a_file(storage):
    before = storage.used()
    song = storage.uploads / "song"
    song.write_bytes(b"x" * 600)
    (storage.new_folder() / "song.wav").hardlink_to(song)
    assert storage.used() - before == 600
    storage.check(400 - before)
    with pytest.raises(StorageFullError, match="no room for more songs"):
        storage.check(401 - before)


def test_it_holds_what_came_in_and_nothing_else(storage, tmp_path):
    inside, outside = storage.uploads / "a" / "song.wav", tmp_path / "secret"
    inside.parent.mkdir()
    inside.touch()
    outside.touch()
    (storage.uploads / "link").symlink_to(outside)
    assert storage.holds(inside)
    assert not storage.holds(inside.parent)
    assert not storage.holds(storage.uploads / "none")
    assert not storage.holds(storage.uploads / "link")
    assert not storage.holds(storage.uploads / ".." / ".." / "secret")
    assert not storage.holds(storage.folder / "lock")
    assert not storage.holds(storage.uploads / "a\0b")


def test_folders_have_names_that_nobody_guesses(storage):
    names = {storage.new_folder().name for _ in range(100)}
    assert len(names) == 100
    assert min(map(len, names)) >= 22  # 128 bits


def test_old_uploads_are_removed(storage):
    old, new = storage.uploads / "1" / "old", storage.uploads / "2" / "new"
    for path in (old, new):
        path.parent.mkdir()
        path.touch()
    for path in (old, old.parent):
        os.utime(path, (time.time() - 100,) * 2)
    storage.remove_old_uploads(50)
    assert not old.exists()
    assert new.exists()


def test_what_came_of_an_upload_that_was_broken_off_is_removed(storage):
    under_way, broken_off = storage.uploads / "tmp1", storage.uploads / "tmp2"
    for path in (under_way, broken_off):
        path.touch()
    os.utime(broken_off, (time.time() - 100,) * 2)
    storage.remove_old_uploads(3600)
    assert under_way.exists()
    assert not broken_off.exists()


def test_nothing_is_left(tmp_path):
    storage = Storage(1000, tmp_path)
    (storage.new_folder() / "song").touch()
    storage.close()
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_a_killed_process_are_removed_by_the_next_one_those_in_use_are_not(tmp_path, storage):
    (storage.uploads / "song").touch()
    code = (
        "import os, pathlib, signal, sys; from vocalsep_jax.web.storage import Storage\n"
        "storage = Storage(1000, pathlib.Path(sys.argv[1])); (storage.uploads / 'song').touch()\n"
        "print(storage.folder, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    left = tmp_path / Path(killed.stdout.strip()).name
    assert (left / "uploads" / "song").exists(), killed.stderr
    being_made, foreign = tmp_path / "vocalsep-serve-new", tmp_path / "vocalsep-serve-link"
    being_made.mkdir()
    foreign.symlink_to(storage.folder)
    Storage(1000, tmp_path).close()
    assert not left.exists()
    assert (storage.uploads / "song").exists()
    assert being_made.exists()
    assert foreign.is_symlink()
    os.utime(being_made, (time.time() - 100,) * 2)  # no lock was made in all that time
    Storage(1000, tmp_path).close()
    assert not being_made.exists()
