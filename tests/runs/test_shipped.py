import pytest

from vocalsep_jax.runs import shipped
from vocalsep_jax.runs.exported import WEIGHTS, read_facts, read_weights
from vocalsep_jax.runs.folder import RunError, find_checkpoint, find_run
from vocalsep_jax.runs.shipped import CARD, default_model, shipped_folder, shipped_models

WHEEL_BYTES = 12e6


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Two models, of which the second is the default."""
    folder = tmp_path / "shipped"
    for name in ("large", "small"):
        (folder / name).mkdir(parents=True)
        for file in ("model.json", "config.json"):
            (folder / name / file).write_text("{}")
    (folder / "notes").mkdir()  # no model
    (folder / "default.txt").write_text("small\n")
    monkeypatch.setattr(shipped, "shipped_folder", lambda: folder)
    return folder


def test_models_and_the_default(models):
    assert shipped_models() == {name: models / name for name in ("large", "small")}
    assert default_model() == "small"


def test_a_model_by_its_name_or_by_none(models):
    assert find_checkpoint() == find_run() == models / "small"
    assert find_checkpoint("large") == find_run("large") == models / "large"


def test_a_path_that_is_there_wins(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large").mkdir()
    assert find_checkpoint("large").resolve() == tmp_path / "large"


def test_what_there_is_not(models):
    for name in ("medium", "./large"):
        with pytest.raises(
            RunError, match=r"^\w+: no such .*; the models of this package are large, small$"
        ):
            find_checkpoint(name)
    (models / "default.txt").unlink()
    with pytest.raises(RunError, match=r"no model comes .* by default: .* or one of large, small$"):
        find_checkpoint()
    (models / "default.txt").write_text("medium")
    with pytest.raises(RunError, match="by default"):
        find_checkpoint()


def test_no_model_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "shipped_folder", lambda: tmp_path / "shipped")
    assert (shipped_models(), default_model()) == ({}, None)
    with pytest.raises(RunError, match=r"^no model comes with this package by default: .* exported model$"):
        find_checkpoint(None)
    with pytest.raises(RunError, match=r"^large: no such checkpoint or run folder$"):
        find_checkpoint("large")


def test_the_models_that_really_come_with_the_package():
    """Their weights are whole, they are small, each has a card, and one is the default."""
    models = shipped_models()
    if not models:
        assert not shipped_folder().exists()
        pytest.skip("there is no model in this tree")
    assert default_model() in models
    assert sum(p.stat().st_size for p in shipped_folder().rglob("*") if p.is_file()) < WHEEL_BYTES
    for folder in models.values():
        assert read_weights(folder)[1] > 0
        assert read_facts(folder)["weights"]["file"] == WEIGHTS
        assert read_facts(folder)["weights"]["sha256"] in (folder / CARD).read_text(encoding="utf-8")
