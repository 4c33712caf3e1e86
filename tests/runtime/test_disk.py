import os
import subprocess
import sys

import pytest

from vocalsep_jax.runtime import disk


def test_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a"
    disk.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        disk.write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def write():
        with disk.replacing(tmp_path / "a") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(tmp_path):
    path = tmp_path / "a [1].wav"
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with disk.replacing(path) as partial:
        partial.write_text("being written")
        abandoned = partial.with_name(partial.name.replace(str(os.getpid()), str(process.pid)))
        others = [partial.with_name(partial.name.replace(".a", ".b")), tmp_path / "a.partial"]
        for file in (abandoned, *others):
            file.touch()
        disk.remove_abandoned(path)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, *(p.name for p in others)}


def test_a_folder_is_whole_or_not_there(tmp_path):
    def fail():
        with disk.replacing(tmp_path / "out") as partial:
            partial.mkdir()
            (partial / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with disk.replacing(tmp_path / "out") as partial:
        partial.mkdir()
        (partial / "a").write_text("whole")
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "a"]
    with pytest.raises(OSError, match="not empty"), disk.replacing(tmp_path / "out") as partial:
        partial.mkdir()
    assert (tmp_path / "out" / "a").read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["x" * 255, "歌" * 85])
def test_names_as_long_as_they_can_be(tmp_path, name):
    disk.write_text(tmp_path / name, "text")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_two_files_of_a_folder_at_once(tmp_path):
    first, second = (tmp_path / ("x" * 100 + end) for end in "ab")
    with disk.replacing(first) as one, disk.replacing(second) as other:
        one.write_text("1")
        other.write_text("2")
    assert (first.read_text(), second.read_text()) == ("1", "2")


def test_a_file_is_one_under_any_name(tmp_path):
    (tmp_path / "a").write_text("text")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "c").write_text("text")
    assert disk.identity(tmp_path / "a") == disk.identity(tmp_path / "b") is not None
    assert disk.identity(tmp_path / "a") != disk.identity(tmp_path / "c")
    for none in (tmp_path, tmp_path / "none", tmp_path / ("x" * 300)):
        assert disk.identity(none) is None
