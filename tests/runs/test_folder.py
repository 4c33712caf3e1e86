import pytest

from vocalsep_jax import __version__
from vocalsep_jax.runs.folder import RunError, checkpoint_folder, config_path, find_run, package_versions


def test_a_run_is_found_from_its_checkpoints(tmp_path):
    config_path(tmp_path).write_text("{}")
    inner = checkpoint_folder(tmp_path) / "best" / "12"
    inner.mkdir(parents=True)
    assert find_run(inner) == find_run(tmp_path) == find_run(str(tmp_path)) == tmp_path


def test_a_run_is_found_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config_path(tmp_path).write_text("{}")
    assert find_run("~") == tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "missing: no such checkpoint or run folder"),
        ("elsewhere", r"elsewhere: not a run or checkpoint \(no config\.json in it or above it\)"),
        ("x" * 300, "File name too long"),
        ("~nobody-of-this-name/x", "home directory"),
    ],
)
def test_where_there_is_no_run(tmp_path, name, message):
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(RunError, match=message) as error:
        find_run(name if name.startswith("~") else tmp_path / name)
    assert len(str(error.value).splitlines()) == 1


def test_versions_of_what_is_there_and_of_what_is_not(monkeypatch):
    monkeypatch.setattr("vocalsep_jax.runs.folder._PACKAGES", ("jax", "no-such-package"))
    versions = package_versions()
    assert versions.keys() == {"vocalsep_jax", "jax", "no-such-package"}
    assert versions["vocalsep_jax"] == __version__
    assert versions["jax"].count(".") == 2
    assert versions["no-such-package"] == "unknown"
