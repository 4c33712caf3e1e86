"""The scripts, in a checkout whose Python only notes what it is called for."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, tone, write_song
from tools import awkward_inputs, gather_songs, model_card
from vocalsep_jax import evaluate, export, list_models, separate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs bash")

PYTHON = f"""#!{sys.executable}
import json, os, pathlib, sys
root = pathlib.Path(__file__).parents[2]
with open(root / "calls.jsonl", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
command = sys.argv[1:]
if command[0] == "tools/gather_songs.py":
    pathlib.Path(command[3]).mkdir(parents=True)
if command[:2] == ["-m", "vocalsep_jax.export"]:
    pathlib.Path(command[3]).mkdir(parents=True)
    (pathlib.Path(command[3]) / "model.json").touch()
sys.exit(command[:2] == ["-m", "vocalsep_jax.cli"] and 2 * ("SHIPPED" not in os.environ))
"""


@pytest.fixture
def script(tmp_path):
    """Runs a script; gives the calls of Python, without those that look whether pip is there."""
    tree = tmp_path / "tree"
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, tree / name)
    python = tree / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    pinned = b"".join(p.read_bytes() for p in sorted((tree / "requirements").glob("*.txt")))
    (tree / ".venv" / "installed-train.txt").write_bytes(pinned)

    def call(name, *arguments, **environment):
        (tree / "calls.jsonl").unlink(missing_ok=True)
        command = ["bash", str(tree / "scripts" / name), *map(str, arguments)]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = (tree / "calls.jsonl").read_text().splitlines()
        calls = [json.loads(line) for line in lines]
        return [c for c in calls if c[:2] != ["-m", "pip"]], done.stdout

    return call


COMMANDS = {
    "vocalsep_jax.separate": separate._parser,
    "vocalsep_jax.evaluate": evaluate._parser,
    "vocalsep_jax.export": export._parser,
}
MAINS = {
    "vocalsep_jax.cli": list_models.main,
    "tools/awkward_inputs.py": awkward_inputs.main,
    "tools/gather_songs.py": gather_songs.main,
    "tools/model_card.py": model_card.main,
}


def names(calls):
    """Which commands are called; those that take flags are asked whether they know these."""
    found = []
    for call in calls:
        module, arguments = (call[1], call[2:]) if call[0] == "-m" else (call[0], call[1:])
        found.append(module)
        if module in COMMANDS:
            COMMANDS[module]().parse_args(arguments)
        elif module in MAINS:  # with --help after them, flags that there are not are still an error
            arguments = arguments[1:] if module == "vocalsep_jax.cli" else arguments
            with pytest.raises(SystemExit) as stop, contextlib.redirect_stdout(io.StringIO()):
                MAINS[module]([*arguments, "--help"])
            assert stop.value.code == 0
    return found


@pytest.fixture
def folders(song_root, tmp_path):
    music = write_song(tmp_path / "music", {"a": tone(100, 1), "b": tone(100, 1)})
    return song_root, music, tmp_path / "new" / "out"


def flag(call, name):
    return next(x for x in call if x.startswith(f"--config.{name}=")).split("=")[1]


def test_the_model_again(script, folders):
    calls, said = script("reproduce_model.sh", *folders)
    out = folders[2]
    assert names(calls) == [
        "tools/gather_songs.py",
        "vocalsep_jax.main",
        "vocalsep_jax.export",
        "vocalsep_jax.evaluate",
        "tools/awkward_inputs.py",
        "tools/model_card.py",
    ]
    ship, exported = calls[1:3]
    assert ship[2:6] == ["--config", "configs/ship.py", "--workdir", f"{out}/run"]
    assert flag(ship, "data.root") == f"{out}/songs"
    assert flag(ship, "data.instrumentals") == f"{out}/songs/instrumentals/train"
    assert flag(ship, "valid.best_by") == "last"
    assert exported[2:] == [f"{out}/run", f"{out}/vocals", "--weights-only", "--dtype", "float16"]
    assert (
        f'cp -r "{out}/vocals" vocalsep_jax/shipped/ && echo vocals > vocalsep_jax/shipped/default.txt'
        in said
    )


def test_started_again_it_makes_no_folder_twice(script, folders):
    first, _ = script("reproduce_model.sh", *folders, MODEL="mine")
    again, _ = script("reproduce_model.sh", *folders, MODEL="mine")
    made = ["tools/gather_songs.py", "vocalsep_jax.export"]
    assert names(again) == [name for name in names(first) if name not in made]
    assert str(folders[2] / "mine") in again[-1]


def test_each_song_left_out(script, folders):
    calls, _ = script("reproduce_model.sh", *folders, LEAVE_ONE_OUT="1", SMOKE="1")
    out = folders[2]
    left_out, card = calls[-2:]
    assert left_out[:2] == ["tools/leave_one_out.py", "configs/smoke.py"]
    assert left_out[left_out.index("--songs") + 1] == str(folders[0])
    assert flag(left_out, "data.instrumentals") == f"{out}/songs/instrumentals/train"
    scores = card[card.index("--leave-one-out") + 1]
    assert scores == str(out / "folds" / "smoke" / "scores.json")
    assert names(calls)[-1] == "tools/model_card.py"
    assert card[-1].startswith("LEAVE_ONE_OUT=1 scripts/reproduce_model.sh")


@pytest.mark.parametrize("shipped", [False, True])
def test_the_quickstart_separates_with_the_model_that_ships_first(script, shipped):
    calls, _ = script("quickstart.sh", **({"SHIPPED": "1"} if shipped else {}))
    expected = ["tools/write_builtin_songs.py", "vocalsep_jax.cli", "vocalsep_jax.separate"]
    expected += ["vocalsep_jax.main", "vocalsep_jax.separate", "vocalsep_jax.evaluate"]
    if not shipped:
        del expected[2]
    assert names(calls) == expected
    assert ["--checkpoint" in call for call in calls if call[1] == "vocalsep_jax.separate"] == [
        False,
        True,
    ][-1 - shipped :]


GCLOUD = f"""#!{sys.executable}
import json, pathlib, sys
root = pathlib.Path(__file__).parents[1]
with open(root / "calls.jsonl", "a") as file:
    file.write(json.dumps(sys.argv[4:]) + "\\n")
states, outcomes = root / "states", root / "outcomes"

def next_of(path):
    first, *rest = path.read_text().split() or ["0"]
    path.write_text(" ".join(rest))
    return first

if sys.argv[4] == "describe":
    state = next_of(states)
    sys.exit(state == "MISSING" or print(state))
if "vocalsep_jax.main" in sys.argv[-1]:
    sys.exit(int(next_of(outcomes)))
"""


class TestTpuPod:
    """The script for pods, beside a gcloud that notes what it is called for, and answers as it is told."""

    @pytest.fixture
    def pod(self, tmp_path):
        """Runs the script; gives its exit code, its output, and what it did to the slice."""
        folder = tmp_path / "bin"
        folder.mkdir()
        for name, text in {"gcloud": GCLOUD, "git": "#!/bin/sh\n"}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

        def run(*arguments, states="", outcomes=""):
            (tmp_path / "states").write_text(states)
            (tmp_path / "outcomes").write_text(outcomes)
            result = subprocess.run(
                ["bash", ROOT / "scripts" / "tpu_pod.sh", *arguments],
                env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "RETRY": "0"},
                capture_output=True,
                text=True,
                timeout=60,
            )
            calls = tmp_path / "calls.jsonl"
            lines = calls.read_text().splitlines() if calls.exists() else []
            done = [_in_short(json.loads(line)) for line in lines]
            return result, [x for x in done if x != "describe"]

        return run

    def test_flags_reach_all_workers_as_they_are(self, pod, tmp_path):
        result, done = pod("train", "slice", "here", "--config", "a b.py", "--workdir=gs")
        assert (result.returncode, done) == (0, ["train"])
        (call,) = map(json.loads, (tmp_path / "calls.jsonl").read_text().splitlines())
        assert call[:4] == ["ssh", "slice", "--zone=here", "--worker=all"]
        assert r"vocalsep_jax.main --multihost --config a\ b.py --workdir=gs 2>&1" in call[4]

    def test_a_slice_that_is_taken_away_is_made_again_until_training_is_done(self, pod):
        result, done = pod(
            "keep", "slice", "here", "v5litepod-64", "--config=c",
            states="MISSING PREEMPTED PREEMPTED MISSING READY READY",
            outcomes="1 1 0",
        )  # fmt: skip
        made = ["create", "scp", "setup", "train"]
        assert done == [*made, "delete", *made, "train"]
        assert result.returncode == 0

    def test_what_fails_on_a_slice_that_is_there_is_given_up(self, pod):
        result, done = pod(
            "keep", "slice", "here", "v5litepod-8", "--x", states="READY " * 6, outcomes="1 1 1"
        )
        assert (result.returncode, done) == (1, ["train"] * 3)
        assert "error: training failed 3 times" in result.stderr

    @pytest.mark.parametrize("command", ["setup", "train", "keep", "stop", "logs"])
    def test_a_dry_run_does_nothing(self, pod, command):
        more = {"train": ["--x"], "keep": ["v5litepod-8", "--x"]}.get(command, [])
        result, done = pod("--dry-run", command, "slice", "here", *more)
        assert (result.returncode, done) == (0, [])
        assert "gcloud compute tpus tpu-vm" in result.stdout

    @pytest.mark.parametrize(
        "arguments", [[], ["train"], ["train", "a", "b"], ["keep", "a", "b", "c"], ["other", "a", "b"]]
    )
    def test_wrong_usage_says_what_there_is(self, pod, arguments):
        result, done = pod(*arguments)
        assert (result.returncode, done) == (2, [])
        assert "scripts/tpu_pod.sh keep NAME ZONE TYPE FLAGS" in result.stderr
        assert "set -euo" not in result.stderr


def _in_short(call):
    """What a call of gcloud was for."""
    if call[0] != "ssh":
        return call[0]
    return "train" if "vocalsep_jax.main" in call[-1] else "setup"
