"""The notebook of the documentation: as it is stored, and as it runs from top to bottom."""

import json

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the dev extra")
nbclient = pytest.importorskip("nbclient", reason="needs the dev extra")
pytest.importorskip("ipykernel", reason="needs the dev extra")

from tests.conftest import ROOT
from vocalsep_jax.runs.history import read_history

TOUR = ROOT / "docs" / "tour.ipynb"

SMALL = """\
SECONDS = 4
STEPS = 2
WORK = {work!r}
"""

# What a reader would see is in the outputs; what it is about is in these.
CHECKS = """\
import json
print(json.dumps({
    "sum_error": sum_error,
    "program_sum_error": program_sum_error,
    "program_difference": program_difference,
    "loudest": float(np.abs(stems["vocals"]).max()),
    "mask": [float(mask.min()), float(mask.max())],
    "mask_error": float(np.abs(mask * magnitude[0] - np.abs(stft.analyse(stems["vocals"]))[0]).mean()),
    "magnitude": float(magnitude[0].mean()),
    "steps": [line["step"] for line in history if line["kind"] == "valid"],
}))
"""


@pytest.fixture(scope="module")
def stored():
    return json.loads(TOUR.read_text(encoding="utf-8"))


def test_it_is_stored_without_what_a_run_leaves(stored):
    assert (stored["nbformat"], stored["nbformat_minor"]) == (4, 5)
    nbformat.validate(stored)
    for cell in stored["cells"]:
        assert cell["id"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
        assert set(cell["metadata"]) <= {"tags"}


def test_it_names_no_machine(stored):
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert stored["metadata"] == {"kernelspec": kernel, "language_info": {"name": "python"}}
    text = TOUR.read_text(encoding="utf-8")
    for private in ("/home/", "/root/", "/tmp/", str(ROOT)):
        assert private not in text


def test_its_first_code_has_the_parameters(stored):
    first = next(cell for cell in stored["cells"] if cell["cell_type"] == "code")
    assert first["metadata"] == {"tags": ["parameters"]}
    parameters = {}
    exec("".join(first["source"]), parameters)
    names = {name for name in parameters if name.isupper()}
    assert names == {line.split(" = ")[0] for line in SMALL.splitlines()}
    assert parameters["WORK"] is None  # a temporary folder


def test_the_page_leads_to_it():
    assert "{download}`tour.ipynb <tour.ipynb>`" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def outputs(notebook, name):
    """What a cell gave, by kind: text, and a list of the kinds of what was displayed."""
    cell = next(cell for cell in notebook.cells if cell.id == name)
    text = "".join(o.text for o in cell.outputs if o.output_type == "stream")
    displayed = [o.data for o in cell.outputs if o.output_type == "display_data"]
    return text, displayed


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    # One device, as a laptop has; most of the time would go into making programs fast.
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    notebook = nbformat.read(TOUR, as_version=4)
    parameters = next(cell for cell in notebook.cells if cell.cell_type == "code")
    parameters.source = SMALL.format(work=str(work))
    notebook.cells.append(nbformat.v4.new_code_cell(CHECKS, id="checks"))
    place = {"metadata": {"path": str(TOUR.parent)}}  # where Jupyter would start it
    nbclient.NotebookClient(notebook, timeout=500, kernel_name="python3", resources=place).execute()

    figures = [data for cell in notebook.cells for o in cell.get("outputs", []) if (data := o.get("data"))]
    assert sum("image/png" in data for data in figures) == 3  # spectrograms, history, scores
    heard, players = outputs(notebook, "listen")
    assert heard.split("\n")[:4] == ["mixture", "true voice", "vocals", "no_vocals"]
    assert ["<audio" in data.get("text/html", "") for data in players] == [True] * 4

    found = json.loads(outputs(notebook, "checks")[0])
    assert found["sum_error"] < 1e-6
    assert found["program_sum_error"] < 1e-6
    assert found["program_difference"] < 1e-5
    assert found["loudest"] > 0.01  # of a voice that there is
    low, high = found["mask"]
    assert 0 <= low < high <= 1
    # Patches end to end give about the mask that Separator averages.
    assert found["mask_error"] < 0.1 * found["magnitude"]
    assert found["steps"] == [1, 2]

    run = work / "tour"
    assert [line["step"] for line in read_history(run) if line["kind"] == "train"] == [1, 2]
    scores = json.loads((work / "scores.json").read_text())
    assert len(scores) == 2
    for row in scores.values():
        assert set(row) == {"mixture", "silence", "tour", "vocals", "ideal"}
        assert row["silence"] == 0
        assert row["ideal"] > max(row["vocals"], row["tour"], row["mixture"])
        assert np.isfinite(list(row.values())).all()
    facts = json.loads((work / "tour-model" / "model.json").read_text())
    assert facts["program"]["largest_difference"] < 1e-4
    assert "separation.stablehlo" in outputs(notebook, "export")[0]
    written = {path.name for path in work.iterdir()} - {"compiled"}  # the tests keep programs elsewhere
    assert written == {"songs", "test-songs", "tour", "tour-model", "scores.json"}
