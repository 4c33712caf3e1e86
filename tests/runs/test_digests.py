import json
import os

import pytest

from vocalsep_jax.runs.digests import DIGESTS, damaged_file, seal


@pytest.fixture
def folder(tmp_path):
    for name in ("a/one", "a/deep/two", "b/three", "outside"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"this is {name}")
    seal(tmp_path, ("a", "b"))
    return tmp_path


def test_what_is_as_it_was(folder):
    assert set(json.loads((folder / DIGESTS).read_text())) == {"a/one", "a/deep/two", "b/three"}
    assert damaged_file(folder) is None
    (folder / "outside").write_text("changed")
    (folder / "a" / "new").write_text("more")
    assert damaged_file(folder) is None


@pytest.mark.parametrize("name", ["a/one", "a/deep/two", "b/three"])
def test_what_is_not(folder, name):
    content = (folder / name).read_text()
    (folder / name).write_text(content.replace("this", "thus"))
    assert damaged_file(folder) == name
    assert damaged_file(folder, "b/") == (name if name.startswith("b/") else None)
    (folder / name).unlink()
    assert damaged_file(folder) == name
    (folder / name).mkdir()
    assert damaged_file(folder) == name


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a/one": 5}', "\xff", "[" * 100_000])
def test_digests_that_are_damaged(folder, content):
    (folder / DIGESTS).write_text(content, encoding="latin-1")
    assert damaged_file(folder) in (DIGESTS, "a/one")


def test_what_was_never_sealed(tmp_path):
    assert damaged_file(tmp_path) is None


@pytest.mark.parametrize("name", ["a/../../outside", "/etc/hosts", "a/\0", "a/\ud800", "a/one\ntwo"])
def test_names_that_nobody_sealed(folder, name):
    (folder / DIGESTS).write_text(json.dumps({name: "0"}))
    assert damaged_file(folder) == DIGESTS


def test_what_would_be_waited_for_is_not_read(folder):
    (folder / DIGESTS).unlink()
    os.mkfifo(folder / "a" / "pipe")
    assert damaged_file(folder, "a/") == "a/pipe"
    assert damaged_file(folder, "b/") is None
    (folder / "b" / "loop").symlink_to("loop")
    assert damaged_file(folder, "b/") == "b/loop"
    os.mkfifo(folder / DIGESTS)
    assert damaged_file(folder) == DIGESTS
