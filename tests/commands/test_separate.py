"""`vocalsep separate`; what it does with each song is `separation`'s business."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT, tone, write_song
from vocalsep_jax import separate
from vocalsep_jax.runs import shipped
from vocalsep_jax.separation.export import export_model
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.separation.stem_files import STEMS


@pytest.fixture(scope="module")
def separators():
    return functools.cache(Separator)


@pytest.fixture(autouse=True)
def _loaded_once(separators, monkeypatch):
    """Calls in this process share their models."""
    monkeypatch.setattr(separate, "Separator", separators)


def with_report(run, folder):
    """The command, in a process of its own, on `folder/in`."""
    command = [sys.executable, "-m", "vocalsep_jax.separate", str(folder / "in"), "--checkpoint", str(run)]
    return [*command, "-o", str(folder / "out"), "--json", str(folder / "r.json")]


def test_sixteen_bit_stems_sum_to_the_input_exactly(run, tmp_path, capsys):
    song = tmp_path / "My Song.wav"
    soundfile.write(song, tone(440, 1.0, 16_000), 16_000)
    out = tmp_path / "out"
    assert separate.main([str(song), "--checkpoint", str(run), "-o", str(out)]) == 0
    paths = [out / "tiny" / "My Song" / f"{s}.wav" for s in STEMS]
    assert capsys.readouterr().out.splitlines() == [str(p) for p in paths]
    stems = [soundfile.read(p, dtype="int16") for p in paths]
    original, _ = soundfile.read(song, dtype="int16")
    assert all(rate == 16_000 for _, rate in stems)
    np.testing.assert_array_equal(stems[0][0] + stems[1][0], original)
    assert np.abs(stems[0][0]).max() > 100
    assert soundfile.info(paths[0]).subtype == "PCM_16"


@pytest.mark.parametrize(
    ("options", "name", "subtype"),
    [
        (["--int24"], "vocals.wav", "PCM_24"),
        (["--wav", "--float32"], "vocals.wav", "FLOAT"),
        (["--flac"], "vocals.flac", "PCM_16"),
        (["--ogg"], "vocals.ogg", "VORBIS"),
        (["--mp3", "--bitrate", "32"], "vocals.mp3", "MPEG_LAYER_III"),
    ],
)
def test_formats(run, tmp_path, options, name, subtype):
    song = write_song(tmp_path / "in", {"a": tone(440, 0.5)}) / "a.wav"
    arguments = [str(song), "--checkpoint", str(run), "-o", str(tmp_path), "--stems", "vocals"]
    assert separate.main([*arguments, *options]) == 0
    (output,) = (tmp_path / "tiny" / "a").iterdir()
    assert output.name == name
    assert soundfile.info(output).subtype == subtype


def test_one_bad_file_does_not_stop_the_others(run, tmp_path, caplog):
    write_song(tmp_path / "in", {"a": tone(440, 0.2), "b": tone(550, 0.2)})
    write_song(tmp_path / "other", {"a": tone(440, 0.2)})
    (tmp_path / "in" / "bad.wav").write_text("text")
    (tmp_path / "empty").mkdir()
    names = ["in/a.wav", "in/bad.wav", "missing.wav", "other/a.wav", "empty", "in/b.wav"]
    songs = [str(tmp_path / n) for n in names]
    assert separate.main([*songs, "--checkpoint", str(run), "-o", str(tmp_path / "out")]) == 1
    assert sorted(p.name for p in (tmp_path / "out" / "tiny").iterdir()) == ["a", "b"]
    for message in (
        "bad.wav: not readable",
        "missing.wav: no such file",
        "a.wav: its output would overwrite that of",
        "empty: no audio files in this folder",
        "4 of 6 songs failed",
    ):
        assert message in caplog.text


def test_folders_patterns_and_names(run, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    write_song(tmp_path / "in", {"a": tone(440, 0.2)})
    write_song(tmp_path / "in" / "deep", {"a": tone(550, 0.3)}, suffix="flac")
    (tmp_path / "in" / "notes.txt").write_text("not sound")
    # Named twice, separated once.
    arguments = [str(tmp_path / "in"), str(tmp_path / "in" / "*.wav"), "--checkpoint", str(run)]
    arguments += ["-o", str(tmp_path / "out"), "--flac", "--int24", "--stems", "vocals"]
    arguments += ["--filename", "{track} - {stem}.{ext}"]
    assert separate.main(arguments) == 0
    paths = [tmp_path / "out" / "tiny" / f"{track} - vocals.flac" for track in ("a", "deep/a")]
    assert capsys.readouterr().out.splitlines() == [str(p) for p in paths]
    assert [soundfile.info(p).subtype for p in paths] == ["PCM_24", "PCM_24"]
    assert [soundfile.info(p).frames for p in paths] == [1600, 2400]
    assert sum(p.is_file() for p in (tmp_path / "out").rglob("*")) == 2

    before = [p.stat().st_mtime_ns for p in paths]
    assert separate.main([*arguments, "--skip-existing"]) == 0
    assert caplog.text.count("there already") == 2
    assert [p.stat().st_mtime_ns for p in paths] == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mp3", "--int16"], "mp3 files do not hold int16"),
        (["--stems", "vocals,drums"], "no 'drums'"),
        (["--filename", "{song}.wav"], "only {track}, {stem} and {ext}"),
        (["--filename", "{track}.wav"], "{stem} has to be in it"),
        (["--filename", "../{stem}"], "is no file below"),
        (["--filename", "", "--stems", "vocals"], "is no file below"),
        (["--flac", "--bitrate", "128"], "flac files have no bit rate"),
        (["--mp3", "--bitrate", "321"], "8 to 320 kbit/s"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--shifts", "0"], "shifts must be at least 1"),
        (["--batch-size", "0"], "batch_size must be at least 1"),
        (["--overlap", "1"], "overlap must be"),
        (["--device", "abacus"], "no device 'abacus'"),
        (["--duration", "0"], "--duration must be more than 0"),
        (["--json", ""], "is no file"),
    ],
)
def test_options_that_do_not_go_together(run, tmp_path, caplog, options, message):
    write_song(tmp_path / "in", {"a": tone(440, 0.2)})
    assert separate.main([str(tmp_path / "in"), "--checkpoint", str(run), *options]) == 2
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert message in line
    assert not (tmp_path / "separated").exists()


def test_a_name_that_is_empty_is_an_error_of_usage(run, caplog):
    assert separate.main(["", "--checkpoint", str(run)]) == 2
    assert "name is empty" in caplog.text


def test_no_input_of_the_call_is_overwritten_under_any_name(run, tmp_path, caplog):
    write_song(tmp_path / "in", {"a": tone(440, 0.2), "b": tone(550, 0.2)})
    other = tmp_path / "out" / "tiny" / "a" / "vocals.wav"
    other.parent.mkdir(parents=True)
    (tmp_path / "in" / "b.wav").rename(other)
    (tmp_path / "in" / "b.wav").symlink_to(other)
    before = other.read_bytes()
    arguments = [str(tmp_path / "in"), "--checkpoint", str(run), "-o", str(tmp_path / "out")]
    assert separate.main(arguments) == 1
    assert f"a.wav: its output would overwrite {tmp_path / 'in' / 'b.wav'}" in caplog.text
    assert other.read_bytes() == before
    assert (tmp_path / "out" / "tiny" / "b" / "vocals.wav").exists()


def test_the_report_overwrites_no_song_and_takes_no_output_s_place(run, tmp_path, caplog):
    song = write_song(tmp_path / "in", {"a": tone(440, 0.2)}) / "a.wav"
    before = song.read_bytes()
    (tmp_path / "link.json").symlink_to(song)
    output = tmp_path / "out" / "tiny" / "a" / "vocals.wav"
    arguments = [str(song), "--checkpoint", str(run), "-o", str(tmp_path / "out")]
    for report in (song, tmp_path / "link.json", output):
        assert separate.main([*arguments, "--json", str(report)]) == 2
    assert caplog.text.count("one of the songs or outputs") == 3
    assert song.read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1:30", 90), ("1:00:01.5", 3601.5), ("0", 0)])
def test_times(text, seconds):
    assert separate._seconds(text) == seconds


@pytest.mark.parametrize("time", ["-1", "1e308:0", "9" * 400, "inf", "1:nan", "1:2:3:4", "", "x"])
def test_times_that_are_none(time):
    for option in ("--start", "--duration"):
        with pytest.raises(SystemExit) as stop:
            separate.main(["a.wav", "--checkpoint", "x", f"{option}={time}"])
        assert stop.value.code == 2


def test_odd_names(run, tmp_path, caplog, capfdbinary):
    """One line an error, whatever is in the name; what is written is printed as the bytes it is."""
    names = ["x" * 300 + ".wav", "line\nbreak\u2028.wav", "...wav", "raw.raw"]
    good = tmp_path / "bytes\udcff {track}.wav"
    try:
        soundfile.write(os.fsencode(good), tone(440, 0.2), 8000)
    except soundfile.LibsndfileError:
        pytest.skip("this file system has no such names")
    soundfile.write(tmp_path / "...wav", tone(440, 0.2), 8000, format="WAV")
    (tmp_path / "raw.raw").write_bytes(bytes(range(256)))
    songs = [str(tmp_path / name) for name in names]
    arguments = ["--checkpoint", str(run), "-o", str(tmp_path / "out"), "--stems", "vocals"]
    assert separate.main([*songs, str(good), *arguments]) == 1
    errors = [r.getMessage() for r in caplog.records if r.getMessage().startswith("error: ")]
    assert len(errors) == 4
    assert all(len(e.splitlines()) == 1 for e in errors)
    for error, message in zip(
        errors, ["too long|no such file", "no such", "no file below", "not readable"], strict=True
    ):
        assert re.search(message, error)
    output = tmp_path / "out" / "tiny" / good.stem / "vocals.wav"
    assert capfdbinary.readouterr().out == os.fsencode(output) + b"\n"
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [output]


def test_no_checkpoint_is_an_error_of_usage(tmp_path, caplog):
    assert separate.main(["a.wav", "--checkpoint", str(tmp_path / "none")]) == 2
    assert "no such checkpoint" in caplog.text
    for name, message in (("x" * 300, "too long"), ("~nobody-of-this-name/run", "home directory")):
        assert separate.main(["a.wav", "--checkpoint", name]) == 2
        assert message in caplog.text
    for config in ({}, {"audio": 3}):
        (tmp_path / "config.json").write_text(json.dumps({"config": config}))
        assert separate.main(["a.wav", "--checkpoint", str(tmp_path)]) == 2
    assert caplog.text.count("config.json: not the config of a run") == 2


@pytest.mark.slow
def test_the_model_that_comes_with_the_package(run, tmp_path, monkeypatch, caplog):
    """By default, and by its name; the folder of the outputs has that, too."""
    write_song(tmp_path / "in", {"a": tone(440, 0.5)})
    monkeypatch.setattr(shipped, "shipped_folder", lambda: tmp_path / "shipped")
    arguments = [str(tmp_path / "in" / "a.wav"), "-o", str(tmp_path / "out")]
    assert separate.main(arguments) == 2
    assert caplog.messages == [
        "error: no model comes with this package by default: name a run or an exported model"
    ]
    assert not (tmp_path / "out").exists()

    export_model(run, tmp_path / "shipped" / "voices", program=False, dtype="float16")
    (tmp_path / "shipped" / "default.txt").write_text("voices\n")
    assert separate.main([*arguments, "--json", str(tmp_path / "report.json")]) == 0
    written = tmp_path / "out" / "voices" / "a" / "vocals.wav"
    assert json.loads((tmp_path / "report.json").read_text())["model"] == "voices"
    by_default = written.read_bytes()
    assert separate.main([*arguments, "--checkpoint", "voices"]) == 0
    assert written.read_bytes() == by_default
    whole = Separator(run).separate(tone(440, 0.5), 8000)["vocals"]
    np.testing.assert_allclose(Separator().separate(tone(440, 0.5), 8000)["vocals"], whole, atol=1e-3)


def test_the_report(run, tmp_path, caplog):
    write_song(tmp_path / "in", {"a": tone(440, 0.5)})
    soundfile.write(tmp_path / "in" / "loud.wav", 3 * tone(440, 0.5, level=1), 8000, "FLOAT")
    report = tmp_path / "new" / "report.json"
    arguments = [str(tmp_path / "in"), str(tmp_path / "none.wav"), "--checkpoint", str(run)]
    arguments += ["-o", str(tmp_path / "out"), "--json", str(report), "--clip-mode", "rescale"]
    assert separate.main(arguments) == 1
    content = json.loads(report.read_text())
    assert (content["model"], content["step"]) == ("tiny", 3)
    assert content["model_sample_rate"] == 8000
    assert content["options"]["clip_mode"] == "rescale"
    assert {"vocalsep_jax", "jax"} <= content["versions"].keys()
    assert [entry["status"] for entry in content["songs"]] == ["done", "done", "failed"]
    first, loud, missing = content["songs"]
    assert (first["sample_rate"], first["channels"], first["samples"]) == (8000, 2, 4000)
    assert first["scale"] == 1
    assert loud["scale"] < 0.5
    assert first["outputs"] == {
        stem: str(tmp_path / "out" / "tiny" / "a" / f"{stem}.wav") for stem in STEMS
    }
    assert missing["error"] == f"{tmp_path / 'none.wav'}: no such file"
    assert separate.main([*arguments[:-2], "--skip-existing", "--start", "0:00.1"]) == 1
    assert [e["status"] for e in json.loads(report.read_text())["songs"]] == [
        "skipped",
        "skipped",
        "failed",
    ]
    assert separate.main([*arguments[:-4], "--json", str(tmp_path / "in")]) == 1
    assert "in: cannot be written" in caplog.text


def test_options_that_change_what_is_computed(run, tmp_path):
    """Part of a song, and the model's own options: the same as `Separator` has."""
    louder = np.linspace(0.1, 1, 8000)[:, None] * (tone(440, 1.0) + tone(1300, 1.0))
    song = write_song(tmp_path / "in", {"a": louder}) / "a.wav"
    arguments = [str(song), "--checkpoint", str(run), "-o", str(tmp_path), "--float32"]
    options = ["--overlap", "0.5", "--shifts", "2", "--start", "0.25", "--duration", "0:0.5"]
    assert separate.main([*arguments, *options, "--device", "cpu"]) == 0
    part = soundfile.read(song, dtype="float32")[0][2000:6000]
    expected = Separator(run, overlap=0.5, shifts=2).separate(part, 8000)
    for name in STEMS:
        found, _ = soundfile.read(tmp_path / "tiny" / "a" / f"{name}.wav", dtype="float32")
        np.testing.assert_allclose(found, expected[name], atol=1e-6)


def test_the_model_s_options_are_passed_on(run, monkeypatch):
    given = []

    def stop(*arguments, **options):
        given.append((*arguments, options))
        raise ValueError

    monkeypatch.setattr(separate, "Separator", stop)
    options = ["--shifts", "3", "--batch-size", "4", "--dtype", "bfloat16", "-d", "gpu", "--overlap", "0.5"]
    options += ["--wiener"]
    assert separate.main(["a.wav", "--checkpoint", str(run)]) == 2
    assert separate.main(["a.wav", "--checkpoint", str(run), *options]) == 2
    assert given == [
        (str(run), {
            "overlap": 0.25, "shifts": 1, "batch_size": 8, "device": None, "dtype": None, "wiener": False,
        }),
        (str(run), {
            "overlap": 0.5, "shifts": 3, "batch_size": 4, "device": "gpu", "dtype": "bfloat16",
            "wiener": True,
        }),
    ]  # fmt: skip


def test_several_songs_at_once_are_the_same_songs(run, tmp_path, capsys):
    write_song(tmp_path / "in", {f"{n}": tone(300 + 50 * n, 1 + n / 3) for n in range(5)})
    (tmp_path / "in" / "bad.wav").write_text("text")
    outputs = []
    for jobs in ("1", "3"):
        arguments = [str(tmp_path / "in"), "--checkpoint", str(run), "-o", str(tmp_path / jobs), "-j", jobs]
        assert separate.main(arguments) == 1
        files = sorted(p for p in (tmp_path / jobs).rglob("*") if p.is_file())
        assert len(files) == 10
        assert sorted(capsys.readouterr().out.splitlines()) == [str(p) for p in files]
        outputs.append({p.relative_to(tmp_path / jobs): p.read_bytes() for p in files})
    assert outputs[0] == outputs[1]


def test_a_second_call_leaves_what_the_first_one_wrote(run, tmp_path, monkeypatch, capsys):
    write_song(tmp_path / "album", {"a": tone(440, 0.2)})
    monkeypatch.chdir(tmp_path / "album")
    for song in (".", "*"):
        assert separate.main([song, "--checkpoint", str(run)]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 2
    assert len(list(Path().rglob("*.wav"))) == 3


def test_what_was_done_before_an_interruption_is_reported(run, tmp_path, monkeypatch, caplog):
    def interrupted(batch, planned):
        batch.stopping.set()
        return [{"song": "a.wav", "status": "done"}, {"song": "b.wav", "status": "failed"}]

    monkeypatch.setattr(separate.Batch, "separate_all", interrupted)
    arguments = ["a.wav", "b.wav", "c.wav", "--checkpoint", str(run), "--json", str(tmp_path / "r.json")]
    assert separate.main(arguments) == 130
    assert caplog.messages == ["interrupted: 1 of 3 songs done"]
    assert len(json.loads((tmp_path / "r.json").read_text())["songs"]) == 2

    def at_once(batch, planned):
        raise KeyboardInterrupt

    monkeypatch.setattr(separate.Batch, "separate_all", at_once)
    assert separate.main(arguments) == 130
    assert caplog.messages[-1] == "interrupted"


def test_help_does_not_wait_for_jax():
    code = (
        "import sys\nfrom vocalsep_jax import separate\n"
        "try: separate.main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.slow
def test_compiled_programs_are_kept(run, tmp_path):
    write_song(tmp_path / "in", {"a": tone(440, 0.2)})
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = with_report(run, tmp_path)
    assert subprocess.run(command, cwd=ROOT, env=environment, capture_output=True).returncode == 0
    assert list((tmp_path / ".cache" / "vocalsep_jax" / "compiled").glob("*/jit_apply*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process's peak memory")
def test_memory_does_not_depend_on_length(run, tmp_path):
    """Twenty minutes against one: as floats they are 73 MB more, many times over if held whole."""
    peaks = []
    for minutes in (1, 20):
        path = write_song(tmp_path / f"{minutes}", {"a": tone(440, 60 * minutes)}) / "a.wav"
        arguments = [str(path), "--checkpoint", str(run), "-o", str(tmp_path / "out")]
        code = (
            "from vocalsep_jax import separate\n"
            f"assert separate.main({arguments}) == 0\n"
            "print(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')).split()[1])"
        )
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        peaks.append(int(result.stdout.split()[-1]) * 1024)
    assert peaks[1] < peaks[0] + 40e6


@pytest.mark.slow
@pytest.mark.usefixtures("_interruptible_children")
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize(("which", "jobs"), [(signal.SIGINT, "1"), (signal.SIGTERM, "2")])
def test_interrupted(run, tmp_path, which, jobs):
    """Complete songs stay, the one under way leaves nothing, and the report tells of both."""
    write_song(tmp_path / "in", {"a": tone(440, 0.2), "b": tone(440, 900)})
    command = [*with_report(run, tmp_path), "-j", jobs, "--overlap", "0.9"]  # b takes its time
    environment = os.environ | {"GLIBC_TUNABLES": ""}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stdout.readline().endswith("vocals.wav\n")  # of a
    started = tmp_path / "out" / "tiny" / "b"
    while not list(started.glob(".*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(which)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted: 1 of 2 songs done"
    assert "Traceback" not in errors
    assert [p.name for p in sorted((tmp_path / "out").rglob("*.*"))] == ["no_vocals.wav", "vocals.wav"]
    entries = json.loads((tmp_path / "r.json").read_text())["songs"]
    assert [(e["status"], e.get("error")) for e in entries] == [("done", None), ("failed", "interrupted")]


@pytest.mark.slow
def test_nobody_reads_what_is_printed(run, tmp_path):
    """As in `vocalsep separate ... | head -1`: the songs are separated all the same."""
    write_song(tmp_path / "in", {name: tone(440, 0.2) for name in "abc"})
    command = with_report(run, tmp_path)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait() == 0, errors
    assert "Traceback" not in errors
    assert "Exception" not in errors
    assert [e["status"] for e in json.loads((tmp_path / "r.json").read_text())["songs"]] == ["done"] * 3
