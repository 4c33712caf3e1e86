from pathlib import Path

import pytest
from etils import epath

from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.places import below, is_local, place, resolved, size


def test_a_path_of_this_machine(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/me")
    assert place("~/runs") == Path("/home/of/me/runs")
    assert is_local(place("a/b"))
    assert resolved(place("a")) == Path.cwd() / "a"
    with pytest.raises(RuntimeError):
        place("~nobody-of-this-name/runs")


@pytest.mark.parametrize("address", ["gs://bucket/runs/a", "s3://bucket/runs/a"])
def test_a_path_in_a_bucket(address):
    path = place(address)
    assert not is_local(path)
    assert (str(path / "b"), path.name, path.parent.name) == (f"{address}/b", "a", "runs")
    assert str(resolved(path)) == address
    assert str(place(path)) == address


@pytest.mark.parametrize("kind", [Path, epath.Path])
def test_what_is_below_a_folder(tmp_path, kind):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("one", "a/two", "a/b/three"):
        (tmp_path / name).touch()
    found = {path.relative_to(kind(tmp_path)).as_posix() for path in below(kind(tmp_path))}
    assert found == {"one", "a", "a/two", "a/b", "a/b/three"}
    (tmp_path / "one").write_bytes(bytes(5))
    assert size(kind(tmp_path) / "one") == 5
    assert list(below(kind(tmp_path) / "none")) == []


def test_a_file_in_a_bucket_is_written_under_its_name(tmp_path):
    """Names cannot change there; a local folder, by the methods that buckets have, stands for one."""
    with disk.replacing(epath.Path(tmp_path) / "file") as path:
        path.write_text("all of it")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
