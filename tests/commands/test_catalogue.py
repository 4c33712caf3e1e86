"""`vocalsep catalogue`; what it does with each song is `separation`'s business."""

import functools
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT, tone, write_song
from vocalsep_jax import catalogue, separate
from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.runtime.beam_flags import pipeline_options
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.separation.stem_files import STEMS

IN_MEMORY = ["--", "--runner=FnApiRunner"]


@pytest.fixture(autouse=True)
def _loaded_once(monkeypatch):
    """Calls in this process share their models."""
    monkeypatch.setattr(catalogue, "Separator", functools.cache(Separator))


@pytest.fixture
def beam():
    """The room that imports Beam."""
    pytest.importorskip("apache_beam", reason="needs the beam extra")
    from vocalsep_jax.separation import catalogue as room

    return room


@pytest.fixture
def separated(beam, run, tmp_path):
    """Calls the command; gives its exit code and what the dead-letter file has, by input."""

    def call(*inputs, out=tmp_path / "out", flags=()):
        letter = tmp_path / "out" / "dead-letter.jsonl"
        arguments = [*map(str, inputs), "--checkpoint", str(run), "-o", str(out), *flags]
        arguments += ["--dead-letter", str(letter)]
        code = catalogue.main([*arguments, *IN_MEMORY])
        letters = [json.loads(line) for line in letter.read_text().splitlines()]
        assert len({x["input"] for x in letters}) == len(letters)
        return code, {x["input"]: x["reason"] for x in letters}

    return call


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_the_stems_are_those_of_the_separate_command(separated, run, tmp_path, capsys):
    write_song(tmp_path / "in", {"a": tone(440, 0.5)})
    write_song(tmp_path / "in" / "deep", {"a": tone(550, 0.3)}, suffix="flac")
    assert separated(tmp_path / "in", flags=["--flac", "--int24"]) == (0, {})
    assert capsys.readouterr().out.startswith("2 songs done, 0 there already, 0 failed: 1 s of sound in ")
    other = tmp_path / "other"
    arguments = [str(tmp_path / "in"), "--checkpoint", str(run), "-o", str(other), "--flac", "--int24"]
    assert separate.main(arguments) == 0
    expected = files(other)
    assert len(expected) == 4
    assert files(tmp_path / "out") == expected | {"dead-letter.jsonl"}
    for name in expected:
        ours, theirs = (soundfile.read(folder / name) for folder in (tmp_path / "out", other))
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-6)
        assert ours[1] == theirs[1]


def test_songs_that_fail_are_named_and_the_others_are_done(separated, tmp_path, caplog, monkeypatch):
    folder = write_song(tmp_path / "in", {"a": tone(440, 0.2), "odd": tone(440, 0.3)})
    (folder / "text.mp3").write_text("not a song")
    (folder / "empty.flac").touch()
    soundfile.write(folder / "nan.wav", [np.nan] * 100, 8000, subtype="FLOAT")
    real = Separator.separate_to

    def separate_to(self, path, outputs, **options):
        if path.name == "odd.wav":
            raise ZeroDivisionError("nobody\nexpected this")
        return real(self, path, outputs, **options)

    monkeypatch.setattr(Separator, "separate_to", separate_to)
    code, failed = separated(folder, tmp_path / "none*.wav")
    assert code == 1
    assert failed == {
        str(folder / "text.mp3"): "not readable as audio (Format not recognised)",
        str(folder / "empty.flac"): "not readable as audio (Format not recognised)",
        str(folder / "nan.wav"): "holds samples that are not finite (NaN or infinity)",
        str(folder / "odd.wav"): "ZeroDivisionError: nobody\\nexpected this",
        str(tmp_path / "none*.wav"): "no such file",
    }
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert line == f"5 of 6 songs failed: {tmp_path / 'out' / 'dead-letter.jsonl'}"
    assert files(tmp_path / "out" / "tiny") == {f"a/{stem}.wav" for stem in STEMS}


def test_what_is_there_is_left_and_what_a_kill_left_is_done_again(separated, tmp_path, capsys):
    folder = write_song(tmp_path / "in", {"a": tone(440, 0.2), "b": tone(550, 0.3)})
    assert separated(folder)[0] == 0
    made = tmp_path / "out" / "tiny"
    before = {name: (made / name).read_bytes() for name in files(made)}
    times = {stem: (made / "a" / f"{stem}.wav").stat().st_mtime_ns for stem in STEMS}
    # Killed between the two names of b.
    code = f"""
import os
from pathlib import Path
from vocalsep_jax.runtime import disk
with disk.replacing(Path({str(made / "b" / "no_vocals.wav")!r})) as partial:
    partial.write_bytes(b"RIFF")
    os._exit(9)
"""
    (made / "b" / "no_vocals.wav").unlink()
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    assert len(files(made / "b")) == 2
    capsys.readouterr()
    assert separated(folder) == (0, {})
    assert capsys.readouterr().out.startswith("1 songs done, 1 there already, 0 failed")
    assert {name: (made / name).read_bytes() for name in files(made)} == before
    assert {stem: (made / "a" / f"{stem}.wav").stat().st_mtime_ns for stem in STEMS} == times


def test_two_songs_of_one_name(separated, tmp_path, capsys):
    one = write_song(tmp_path / "one", {"a": tone(440, 0.2)}) / "a.wav"
    two = write_song(tmp_path / "two", {"a": tone(440, 0.3)}) / "a.wav"
    code, failed = separated(two, one, one, tmp_path / "one" / "*.wav")
    assert (code, failed) == (1, {str(two): f"its output would overwrite that of {one}"})
    assert soundfile.info(tmp_path / "out" / "tiny" / "a" / "vocals.wav").frames == 1600
    assert capsys.readouterr().out.startswith("1 songs done, 0 there already, 1 failed")


def test_earlier_outputs_are_no_songs(separated, tmp_path, monkeypatch):
    monkeypatch.chdir(write_song(tmp_path / "in", {"a": tone(440, 0.2)}))
    for _ in range(2):
        assert separated(".", out="out") == (0, {})
    assert files(tmp_path / "in" / "out" / "tiny") == {f"a/{stem}.wav" for stem in STEMS}


def test_names_that_are_no_text(separated, tmp_path):
    song = tmp_path / "in" / "bytes\udcff.wav"
    song.parent.mkdir()
    try:
        soundfile.write(os.fsencode(song), tone(440, 0.2), 8000)
        (song.parent / "text\udcff.wav").write_text("not a song")
    except (OSError, soundfile.LibsndfileError):
        pytest.skip("this file system has no such names")
    code, failed = separated(song.parent)
    assert (code, set(failed)) == (1, {str(song.parent / "text\udcff.wav")})
    assert (tmp_path / "out" / "tiny" / "bytes\udcff" / "vocals.wav").exists()


def test_another_file_system(separated, beam, tmp_path, monkeypatch):
    """Songs are copied from it, outputs to it, and only under their names when all of them are there."""
    from apache_beam.io.filesystem import FileMetadata
    from apache_beam.io.localfilesystem import LocalFileSystem

    store = tmp_path / "store"

    class Store(LocalFileSystem):
        """Files of a folder, as `store://` has them."""

        @classmethod
        def scheme(cls):
            return "store"

        def join(self, base, *paths):
            return "/".join([base.rstrip("/"), *paths])

        def split(self, path):
            return tuple(path.rsplit("/", 1))

        def _list(self, prefix):
            for file in super()._list(self.place(prefix)):
                yield FileMetadata(
                    f"store://{Path(file.path).relative_to(store).as_posix()}", file.size_in_bytes
                )

        def place(self, path):
            return str(store / path.removeprefix("store://"))

        def create(self, path, *arguments):
            return super().create(self.place(path), *arguments)

        def open(self, path, *arguments):
            return super().open(self.place(path), *arguments)

        def exists(self, path):
            return super().exists(path if path.startswith("/") else self.place(path))

        def metadata(self, path):
            return FileMetadata(path, super().metadata(self.place(path)).size_in_bytes)

        def rename(self, sources, targets):
            assert all(Path(self.place(source)).exists() for source in sources)
            super().rename([*map(self.place, sources)], [*map(self.place, targets)])

    write_song(store / "in", {"a": tone(440, 0.2)})
    write_song(store / "in" / "deep", {"a": tone(550, 0.3)}, suffix="flac")
    (store / "in" / "notes.txt").write_text("not sound")
    for _ in range(2):
        code, failed = separated("store://in", "store://in/*.txt", out="store://out")
        assert (code, failed) == (
            1,
            {"store://in/notes.txt": "not readable as audio (Format not recognised)"},
        )
    expected = {f"{track}/{stem}.wav" for track in ("a", "deep/a") for stem in STEMS}
    assert files(store / "out" / "tiny") == expected
    assert soundfile.info(store / "out" / "tiny" / "deep" / "a" / "vocals.wav").frames == 2400


@pytest.mark.slow
def test_two_processes(beam, run, tmp_path):
    folder = write_song(tmp_path / "in", {f"s{n}": tone(440 + n, 0.2) for n in range(6)})
    (folder / "bad.wav").write_text("not a song")
    command = [sys.executable, "-m", "vocalsep_jax.catalogue", "in", "--checkpoint", str(run), "-o", "out"]
    flags = ["--runner=FnApiRunner", "--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--", *flags], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("6 songs done, 0 there already, 1 failed: 1 s of sound in ")
    expected = {f"tiny/s{n}/{stem}.wav" for n in range(6) for stem in STEMS}
    assert files(tmp_path / "out") == expected | {"dead-letter.jsonl"}
    (letter,) = map(json.loads, (tmp_path / "out" / "dead-letter.jsonl").read_text().splitlines())
    assert letter["input"] == str(folder / "bad.wav")


PORTABLE = [
    "--runner=FlinkRunner --flink_master=HOST:8081 --parallelism=16 --environment_type=PROCESS "
    '--environment_config={"command":"/opt/apache/beam/boot"}',
    "--runner=SparkRunner --spark_master_url=spark://HOST:7077 --environment_type=DOCKER "
    "--environment_config=REGISTRY/vocalsep",
    "--runner=DataflowRunner --project=P --region=R --temp_location=gs://BUCKET/temp "
    "--sdk_container_image=REGISTRY/vocalsep --max_num_workers=20",
    "--runner=PortableRunner --job_endpoint=HOST:8099 --environment_type=LOOPBACK",
    "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing",
]


@pytest.mark.parametrize("flags", PORTABLE)
def test_the_flags_of_engines_and_a_pipeline_that_can_be_sent_to_them(beam, flags):
    import apache_beam

    options = pipeline_options(flags.split())
    name = options.get_all_options()["runner"]
    assert flags.startswith(f"--runner={name}")
    job = beam.Job(None, {"shifts": 1}, "gs://out/vocals", STEMS, Encoding(), "clamp")
    pipeline = apache_beam.Pipeline(runner="FnApiRunner", options=options)
    beam.build(pipeline, ["gs://in/**.flac"], "gs://out/dead-letter.jsonl", job)
    sent = pipeline.to_runner_api()
    assert sent.ByteSize() < 100_000  # there is no model in it
    assert any("Separate" in x.unique_name for x in sent.components.transforms.values())


def test_the_steps_travel_without_the_model(beam, run):
    job = beam.Job(str(run), {"batch_size": 2}, "out", STEMS, Encoding(), "clamp")
    step = beam._Separate(job)
    there = pickle.dumps(step)
    assert len(there) < 2000
    pickle.loads(there).setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mp3", "--int16"], "mp3 files do not hold int16"),
        (["--stems", "vocals,drums"], "no 'drums'"),
        (["--shifts", "0"], "shifts must be at least 1"),
        (["--dead-letter", "letters.wav"], "would be an audio file"),
        (["--dead-letter", "."], "is a folder"),
        (["-o", "nowhere://out"], "Unable to get filesystem from specified path"),
        (["--", "--direct_num_worker=2"], "Beam has no flag --direct_num_worker=2"),
        (["--", "--direct_num_workers=two"], "argument --direct_num_workers: invalid int value: 'two'"),
        (["--", "word"], "Beam has no flag word"),
        (["--", "--runner=NoRunner"], "Unexpected pipeline runner: NoRunner"),
    ],
)
def test_options_that_do_not_go_together(beam, run, tmp_path, caplog, capfd, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    write_song(tmp_path / "in", {"a": tone(440, 0.2)})
    flags = [] if "--" in options else IN_MEMORY
    assert catalogue.main(["in", "--checkpoint", str(run), *options, *flags]) == 2
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert message in line
    assert "\n" not in line
    assert not capfd.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_name_that_is_empty_is_an_error_of_usage(caplog):
    assert catalogue.main([""]) == 2
    assert caplog.messages == ["error: an input's name is empty"]


def test_without_beam_the_extra_is_named(monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert catalogue.main(["a.wav"]) == 2
    assert caplog.messages[-1] == "error: this needs Apache Beam: pip install 'vocalsep_jax[beam]'"


def test_a_wrong_flag_and_help(capsys):
    with pytest.raises(SystemExit) as stop:
        catalogue.main(["a.wav", "--checkpont", "x"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith("error: unrecognized arguments: --checkpont x\n")
    with pytest.raises(SystemExit) as stop:
        catalogue.main(["--help"])
    assert stop.value.code == 0
    assert "BEAM_FLAG" in capsys.readouterr().out
