"""`vocalsep separate`."""

import concurrent.futures
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT, tone, write_container, write_song
from vocalsep_jax import separate
from vocalsep_jax.audio import files
from vocalsep_jax.separation import separator


def with_report(run, folder):
    """The command, in a process of its own, on `folder/in`."""
    command = [sys.executable, "-m", "vocalsep_jax.separate", str(folder / "in"), "--checkpoint", str(run)]
    return [*command, "-o", str(folder / "out"), "--json", str(folder / "r.json")]


def test_sixteen_bit_stems_sum_to_the_input_exactly(run, tmp_path, capsys):
    song = tmp_path / "My Song.wav"
    soundfile.write(song, tone(440, 1.0, 16_000), 16_000)
    out = tmp_path / "out"
    assert separate.main([str(song), "--checkpoint", str(run), "-o", str(out)]) == 0
    paths = [out / "tiny" / "My Song" / f"{s}.wav" for s in separator.STEMS]
    assert capsys.readouterr().out.splitlines() == [str(p) for p in paths]
    stems = [soundfile.read(p, dtype="int16") for p in paths]
    original, _ = soundfile.read(song, dtype="int16")
    assert all(rate == 16_000 for _, rate in stems)
    np.testing.assert_array_equal(stems[0][0] + stems[1][0], original)
    assert np.abs(stems[0][0]).max() > 100
    assert soundfile.info(paths[0]).subtype == "PCM_16"


def test_twenty_four_bit_stems_sum_to_the_input_exactly(run, tmp_path, rng):
    song = tmp_path / "a.wav"
    soundfile.write(song, rng.uniform(-0.5, 0.5, (60_000, 2)), 8000, "PCM_24")
    assert separate.main([str(song), "--checkpoint", str(run), "-o", str(tmp_path), "--int24"]) == 0
    paths = [tmp_path / "tiny" / "a" / f"{s}.wav" for s in separator.STEMS]
    stems = [soundfile.read(p, dtype="int32")[0] >> 8 for p in paths]
    np.testing.assert_array_equal(stems[0] + stems[1], soundfile.read(song, dtype="int32")[0] >> 8)


def test_float_stems(run, tmp_path):
    write_song(tmp_path / "x", {"a": tone(440, 0.5, level=1.0)})
    arguments = ["--checkpoint", str(run), "-o", str(tmp_path), "--float32"]
    assert separate.main([str(tmp_path / "x" / "a.wav"), *arguments]) == 0
    stems = [files.read(tmp_path / "tiny" / "a" / f"{s}.wav")[0] for s in separator.STEMS]
    expected, _ = files.read(tmp_path / "x" / "a.wav")
    np.testing.assert_allclose(stems[0] + stems[1], expected, atol=1e-7)


def test_one_bad_file_does_not_stop_the_others(run, tmp_path, caplog):
    write_song(tmp_path / "in", {"a": tone(440, 0.2), "b": tone(550, 0.2)})
    write_song(tmp_path / "other", {"a": tone(440, 0.2)})
    (tmp_path / "in" / "bad.wav").write_text("text")
    names = ["in/a.wav", "in/bad.wav", "missing.wav", "other/a.wav", "in/b.wav"]
    songs = [str(tmp_path / n) for n in names]
    assert separate.main([*songs, "--checkpoint", str(run), "-o", str(tmp_path / "out")]) == 1
    assert sorted(p.name for p in (tmp_path / "out" / "tiny").iterdir()) == ["a", "b"]
    for message in ("bad.wav: not readable", "missing.wav: no such file", "would overwrite", "3 of 5"):
        assert message in caplog.text


def test_folders_formats_and_names(run, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    write_song(tmp_path / "in", {"a": tone(440, 0.2)})
    write_song(tmp_path / "in" / "deep", {"a": tone(550, 0.3)}, suffix="flac")
    (tmp_path / "in" / "notes.txt").write_text("not sound")
    arguments = [str(tmp_path / "in"), "--checkpoint", str(run), "-o", str(tmp_path / "out")]
    arguments += ["--flac", "--int24", "--stems", "vocals", "--filename", "{track} - {stem}.{ext}"]
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
        (["--flac", "--float32"], "flac files do not hold float32"),
        (["--stems", "vocals,drums"], "no 'drums'"),
        (["--filename", "{song}.wav"], "only {track}, {stem} and {ext}"),
        (["--filename", "{track}.wav"], "{stem} has to be in it"),
        (["--filename", "{track.x}{stem}"], "only {track}, {stem} and {ext}"),
        (["--filename", "{track[a]}{stem}"], "only {track}, {stem} and {ext}"),
        (["--filename", "../{stem}"], "is no file below"),
        (["--filename", "/{stem}"], "is no file below"),
        (["--filename", "", "--stems", "vocals"], "is no file below"),
        (["--flac", "--bitrate", "128"], "flac files have no bit rate"),
        (["--mp3", "--bitrate", "321"], "8 to 320 kbit/s"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--shifts", "0"], "shifts must be at least 1"),
        (["--duration", "0"], "--duration must be more than 0"),
        (["--json", ""], "is no file"),
    ],
)
def test_options_that_do_not_go_together(run, tmp_path, caplog, options, message):
    write_song(tmp_path / "in", {"a": tone(440, 0.2)})
    assert separate.main([str(tmp_path / "in"), "--checkpoint", str(run), *options]) == 2
    assert message in caplog.text


def test_a_folder_without_audio_does_not_stop_the_others(run, tmp_path, caplog):
    (tmp_path / "empty").mkdir()
    write_song(tmp_path / "in", {"a": tone(440, 0.2)})
    arguments = ["--checkpoint", str(run), "-o", str(tmp_path / "out")]
    assert separate.main([str(tmp_path / "empty"), str(tmp_path / "in"), *arguments]) == 1
    assert "empty: no audio files in this folder" in caplog.text
    assert (tmp_path / "out" / "tiny" / "a" / "vocals.wav").exists()


def test_a_name_that_is_empty_is_an_error_of_usage(run, caplog):
    assert separate.main(["", "--checkpoint", str(run)]) == 2
    assert "name is empty" in caplog.text


def test_an_input_is_never_overwritten(run, tmp_path, caplog):
    folder = write_song(tmp_path / "tiny", {"vocals": tone(440, 0.2)})
    before = (folder / "vocals.wav").read_bytes()
    arguments = [str(folder / "vocals.wav"), "--checkpoint", str(run), "-o", str(tmp_path)]
    assert separate.main([*arguments, "--filename", "{stem}.{ext}"]) == 1
    assert "would overwrite it" in caplog.text
    assert (folder / "vocals.wav").read_bytes() == before


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


def test_the_report_overwrites_no_song(run, tmp_path, caplog):
    song = write_song(tmp_path / "in", {"a": tone(440, 0.2)}) / "a.wav"
    before = song.read_bytes()
    (tmp_path / "link.json").symlink_to(song)
    for report in (song, tmp_path / "link.json"):
        assert separate.main([str(song), "--checkpoint", str(run), "--json", str(report)]) == 2
    assert caplog.text.count("one of the songs") == 2
    assert song.read_bytes() == before


@pytest.mark.parametrize("time", ["-1", "1e308:0", "9" * 400, "inf", "1:nan", "1:2:3:4", "", "x"])
def test_times_that_are_none(time):
    for option in ("--start", "--duration"):
        with pytest.raises(SystemExit) as stop:
            separate.main(["a.wav", "--checkpoint", "x", f"{option}={time}"])
        assert stop.value.code == 2


def test_times_beyond_any_song(run, tmp_path, caplog):
    song = write_song(tmp_path / "in", {"a": tone(440, 0.2)}) / "a.wav"
    arguments = [str(song), "--checkpoint", str(run), "-o", str(tmp_path / "out")]
    assert separate.main([*arguments, "--duration", "1e308"]) == 0
    assert soundfile.info(tmp_path / "out" / "tiny" / "a" / "vocals.wav").frames == 1600
    assert separate.main([*arguments, "--start", "1e308"]) == 1
    assert "a.wav: ends after 0.20 s" in caplog.text


def test_a_song_that_is_gone_though_its_outputs_are_there(run, tmp_path, caplog):
    write_song(tmp_path / "in", {"a": tone(440, 0.2)})
    song = tmp_path / "in" / "a.wav"
    arguments = [str(song), "--checkpoint", str(run), "-o", str(tmp_path / "out")]
    assert separate.main(arguments) == 0
    song.unlink()
    assert separate.main(arguments) == 1
    assert "a.wav: no such file" in caplog.text
    song.symlink_to(song)
    assert separate.main(arguments) == 1
    assert len(list((tmp_path / "out" / "tiny" / "a").iterdir())) == 2


def test_a_file_that_has_nothing_but_a_suffix_for_a_name(run, tmp_path):
    song = write_song(tmp_path / "in", {"a": tone(440, 0.2)}) / "a.wav"
    for name, track in ((".stem.mp4", ".stem"), (".wav", ".wav")):
        other = song.rename(song.with_name(name))
        assert list(separate._tracks([str(other)], tmp_path / "out")) == [(other, track)]
        other.rename(song)


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


def test_a_folder_in_the_place_of_one_stem_leaves_neither(run, tmp_path, caplog):
    write_song(tmp_path / "in", {"a": tone(440, 0.2)})
    (tmp_path / "out" / "tiny" / "a" / "vocals.wav").mkdir(parents=True)
    arguments = [str(tmp_path / "in"), "--checkpoint", str(run), "-o", str(tmp_path / "out")]
    assert separate.main(arguments) == 1
    assert separate.main([*arguments, "--stems", "vocals", "--skip-existing"]) == 1
    assert caplog.text.count("vocals.wav: cannot be written (is a folder)") == 2
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


@pytest.mark.parametrize("options", [["--float32"], ["--int16"]])
def test_numbers_too_large_to_compute_with(run, tmp_path, caplog, options):
    write_song(tmp_path / "in", {"good": tone(440, 0.2)})
    samples = np.full((3000, 1), 3e38) * np.sign(tone(440, 3000 / 8000, channels=1))
    soundfile.write(tmp_path / "in" / "a.wav", samples, 8000, "FLOAT")
    arguments = [str(tmp_path / "in"), "--checkpoint", str(run), "-o", str(tmp_path / "out"), *options]
    assert separate.main(arguments) == 1
    assert "a.wav: the waveform's values are too large" in caplog.text
    assert [p.name for p in (tmp_path / "out" / "tiny").iterdir() if list(p.iterdir())] == ["good"]


def test_a_file_damaged_halfway_leaves_nothing(run, tmp_path, caplog):
    write_song(tmp_path / "in", {"a": np.random.default_rng(0).uniform(-1, 1, (40_000, 2))}, suffix="flac")
    path = tmp_path / "in" / "a.flac"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    path.write_bytes(content)
    assert separate.main([str(path), "--checkpoint", str(run), "-o", str(tmp_path / "out")]) == 1
    assert "a.flac: not readable as audio" in caplog.text
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


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
    with pytest.raises(SystemExit) as stop:
        separate.main(["a.wav"])
    assert stop.value.code == 2


def test_compiled_programs_are_kept(run, tmp_path):
    write_song(tmp_path / "in", {"a": tone(440, 0.2)})
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-m", "vocalsep_jax.separate", str(tmp_path / "in" / "a.wav")]
    command += ["--checkpoint", str(run), "-o", str(tmp_path / "out")]
    assert subprocess.run(command, cwd=ROOT, env=environment, capture_output=True).returncode == 0
    assert list((tmp_path / ".cache" / "vocalsep_jax" / "compiled").glob("*/jit_apply*"))


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


def test_help_does_not_wait_for_jax():
    code = (
        "import sys\nfrom vocalsep_jax import separate\n"
        "try: separate.main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_patterns_are_expanded_and_brackets_may_be_names(run, tmp_path, capsys, caplog):
    write_song(tmp_path / "in", {"a": tone(440, 0.2), "b": tone(440, 0.2), "c[1]": tone(440, 0.2)})
    arguments = ["--checkpoint", str(run), "-o", str(tmp_path / "out"), "--stems", "vocals"]
    songs = [str(tmp_path / "in" / "[ab].wav"), str(tmp_path / "in" / "c[1].wav")]
    assert separate.main([*songs, *arguments]) == 0
    tracks = [Path(line).parent.name for line in capsys.readouterr().out.splitlines()]
    assert tracks == ["a", "b", "c[1]"]
    assert separate.main([songs[1], *songs, *arguments]) == 0  # named twice, separated once
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert separate.main([str(tmp_path / "**" / "*.flac"), *arguments]) == 1
    assert "*.flac: no such file" in caplog.text


def test_the_first_stream_of_a_stem_file(run, tmp_path, capsys):
    streams = [tone(f, 0.5, 44_100) for f in (300, 1000)]
    write_container(tmp_path / "in.stem.mp4", streams)
    write_container(tmp_path / "alone.m4a", streams[:1])
    songs = [str(tmp_path / "in.stem.mp4"), str(tmp_path / "alone.m4a")]
    assert separate.main([*songs, "--checkpoint", str(run), "-o", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / "tiny"
    assert sorted(p.name for p in folder.iterdir()) == ["alone", "in"]
    for stem in separator.STEMS:
        assert (folder / "in" / f"{stem}.wav").read_bytes() == (
            folder / "alone" / f"{stem}.wav"
        ).read_bytes()


def test_bit_rates(run, tmp_path, caplog):
    soundfile.write(tmp_path / "a.wav", tone(440, 5.0, 44_100), 44_100)
    soundfile.write(tmp_path / "low.wav", tone(440, 5.0, 8000), 8000)
    arguments = ["--checkpoint", str(run), "-o", str(tmp_path / "out"), "--mp3", "--stems", "vocals"]
    assert separate.main([str(tmp_path / "a.wav"), *arguments, "--bitrate", "128"]) == 0
    size = (tmp_path / "out" / "tiny" / "a" / "vocals.mp3").stat().st_size
    assert size * 8 / 5 == pytest.approx(128_000, rel=0.03)
    assert separate.main([str(tmp_path / "low.wav"), *arguments, "--bitrate", "128"]) == 1
    assert "mp3 at 8000 Hz has 8 to 64 kbit/s, not 128" in caplog.text
    assert separate.main([str(tmp_path / "low.wav"), *arguments]) == 0


def test_the_report(run, tmp_path, caplog):
    write_song(tmp_path / "in", {"a": tone(440, 0.5)})
    soundfile.write(tmp_path / "in" / "loud.wav", 3 * tone(440, 0.5, level=1), 8000, "FLOAT")
    report = tmp_path / "new" / "report.json"
    arguments = [str(tmp_path / "in"), str(tmp_path / "none.wav"), "--checkpoint", str(run)]
    arguments += ["-o", str(tmp_path / "out"), "--json", str(report), "--clip-mode", "rescale"]
    assert separate.main(arguments) == 1
    content = json.loads(report.read_text())
    assert content["model"] == "tiny"
    assert content["model_sample_rate"] == 8000
    assert content["options"]["clip_mode"] == "rescale"
    assert [entry["status"] for entry in content["songs"]] == ["done", "done", "failed"]
    first, loud, missing = content["songs"]
    assert (first["sample_rate"], first["channels"], first["samples"], first["scale"]) == (
        8000,
        2,
        4000,
        1.0,
    )
    assert loud["scale"] < 0.5
    assert first["outputs"] == {
        stem: str(tmp_path / "out" / "tiny" / "a" / f"{stem}.wav") for stem in separator.STEMS
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


@pytest.mark.usefixtures("_interruptible_children")
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupted(run, tmp_path, which, jobs):
    """Complete songs stay, the one under way leaves nothing, and the report tells of both."""
    write_song(tmp_path / "in", {"a": tone(440, 0.2), "b": tone(440, 900)})
    command = [*with_report(run, tmp_path), "-j", jobs]
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


def test_progress_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    clock = iter(np.arange(0, 100, 5.0))  # the first is of the line itself
    monkeypatch.setattr(separate.time, "monotonic", lambda: next(clock))
    monkeypatch.setenv("COLUMNS", "120")
    progress = separate._Progress()
    with progress.song("[1/2] a.wav"):
        progress.show("[1/2] a.wav", 60.0, 240.0)
        assert "[1/2] a.wav:  25 %  12.0 x real time  15 s left" in screen.getvalue()
        with progress.song("[2/2] b.aac"):
            progress.show("[2/2] b.aac", 30.0, 0.0)
            line = screen.getvalue().split("\r")[-1]
            assert "[1/2] a.wav:  25 %" in line
            assert "[2/2] b.aac: 30 s  6.0 x real time" in line
            assert len(line) == 119
    assert screen.getvalue().split("\r")[-2:] == [" " * 119, ""]


def test_progress_elsewhere(monkeypatch, caplog):
    caplog.set_level("INFO")
    clock = iter([0, 0, 30.0, 70.0, 100.0])
    monkeypatch.setattr(separate.time, "monotonic", lambda: next(clock))
    progress = separate._Progress()
    with progress.song("[1/1] a.wav"):
        for done in (30.0, 70.0, 100.0):
            progress.show("[1/1] a.wav", done, 140.0)
    assert caplog.messages == ["[1/1] a.wav:  50 %  1.0 x real time  1 min 10 s left"]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1:30", 90), ("1:00:01.5", 3601.5), ("0", 0)])
def test_times(text, seconds):
    assert separate._seconds(text) == seconds


def test_a_second_run_over_a_folder_leaves_its_outputs(run, tmp_path, monkeypatch, capsys):
    write_song(tmp_path / "album", {"a": tone(440, 0.2)})
    monkeypatch.chdir(tmp_path / "album")
    for song in (".", "*", "**/*.wav"):
        assert separate.main([song, "--checkpoint", str(run)]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 2
    assert len(list(Path().rglob("*.wav"))) == 3
    assert separate.main(["separated/tiny/a/vocals.wav", "--checkpoint", str(run)]) == 0  # named itself
    assert capsys.readouterr().out.splitlines()[0] == "separated/tiny/vocals/vocals.wav"


def test_the_report_takes_no_output_s_place(run, tmp_path, caplog):
    song = write_song(tmp_path / "in", {"a": tone(440, 0.2)}) / "a.wav"
    report = tmp_path / "out" / "tiny" / "a" / "vocals.wav"
    arguments = [str(song), "--checkpoint", str(run), "-o", str(tmp_path / "out"), "--json", str(report)]
    assert separate.main(arguments) == 2
    assert "one of the songs or outputs" in caplog.text


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


def test_interrupted_while_songs_are_queued(run, tmp_path, monkeypatch, caplog):
    """Those that wait already are not separated first."""
    write_song(tmp_path / "in", {f"{n}": tone(440, 30) for n in range(6)})

    class Interrupted(concurrent.futures.ThreadPoolExecutor):
        def submit(self, function, number, *rest):
            if number == 5:
                raise KeyboardInterrupt
            return super().submit(function, number, *rest)

    futures = types.SimpleNamespace(Future=concurrent.futures.Future, ThreadPoolExecutor=Interrupted)
    monkeypatch.setattr(separate, "concurrent", types.SimpleNamespace(futures=futures))
    arguments = [str(tmp_path / "in"), "--checkpoint", str(run), "-o", str(tmp_path / "out")]
    assert separate.main(arguments) == 130
    assert len([p for p in (tmp_path / "out").rglob("*") if p.is_file()]) <= 2  # of the one under way
    assert "interrupted: " in caplog.text
