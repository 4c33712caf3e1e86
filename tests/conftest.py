"""Shared fixtures. Eight simulated CPU devices, and JAX as strict as it gets."""

import os
import signal
import tempfile

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Programs compiled once serve all tests, those in processes of their own too.
_COMPILED = tempfile.TemporaryDirectory(prefix="vocalsep-jax-compiled-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from tools.fuzz_separate.tiny_run import make_run

jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).resolve().parent.parent
REAL_SONGS = ROOT.parent / "shared" / "music" / "everything-is-remixed"


_STRICT = {"test_frontend", "test_layers", "test_losses", "test_metrics", "test_unet"}


@pytest.fixture(autouse=True)
def _strict_dtypes(request):
    """No implicit promotion in our own arithmetic; Optax's schedules do promote."""
    kind = "strict" if request.module.__name__.split(".")[-1] in _STRICT else "standard"
    with jax.numpy_dtype_promotion(kind):
        yield


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Hundreds of them for eight devices would take gigabytes; what is needed again is read from disk."""
    yield
    jax.clear_caches()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_songs():
    if not REAL_SONGS.is_dir():
        pytest.skip("the folder of real songs is not here")
    return REAL_SONGS


def write_song(folder, stems, rate=8000, suffix="wav"):
    """A song folder of `stems` (name -> [S, C])."""
    folder.mkdir(parents=True)
    for name, samples in stems.items():
        soundfile.write(folder / f"{name}.{suffix}", samples, rate)
    return folder


def tone(frequency, seconds, rate=8000, channels=2, level=0.3):
    """A sine, float32 [S, C]."""
    t = np.arange(round(seconds * rate)) / rate
    wave = level * np.sin(2 * np.pi * frequency * t)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def write_container(path, streams, rate=44_100, codec="aac"):
    """A container of what its suffix says, with audio streams `[S, C]` each; skips without PyAV."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    rates = rate if isinstance(rate, list) else [rate] * len(streams)
    with av.open(str(path), "w") as container:
        layouts = ["mono" if x.shape[1] == 1 else "stereo" for x in streams]
        outputs = [
            container.add_stream(codec, rate=rate, layout=layout)
            for rate, layout in zip(rates, layouts, strict=True)
        ]
        for output, samples, layout, rate in zip(outputs, streams, layouts, rates, strict=True):
            for first in range(0, len(samples), 1024):
                block = np.ascontiguousarray(samples[first : first + 1024].T)
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = rate, first
                container.mux(output.encode(frame))
            container.mux(output.encode(None))


def random_variables(network, patch, seed=0):
    """Parameters and statistics as a network may have learned them; nothing is compiled for them."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jax.numpy.zeros((1, *patch)))

    def value(path, x):
        name, noise = path[-1].key, rng.standard_normal(x.shape, np.float32)
        if name == "kernel":
            return noise / np.float32(np.sqrt(4 * x.shape[2]))
        return 1 + 0.1 * np.abs(noise) if name in ("scale", "var") else 0.1 * noise

    return jax.tree.map_with_path(value, shapes)


@pytest.fixture
def song_root(tmp_path):
    """Three training songs and a test song of tones, 8 kHz stereo."""
    root = tmp_path / "songs"
    for n, (split, name) in enumerate(
        [("train", "A - One"), ("train", "B - Two"), ("train", "C - Three"), ("test", "D - Four")]
    ):
        stems = {"vocals": tone(440 + 50 * n, 2 + n), "accompaniment": tone(100 + 10 * n, 2 + n)}
        write_song(root / split / name, stems)
    return root


@pytest.fixture
def _interruptible_children():
    """Processes that are started heed SIGINT, where the tests run in a shell's background, too.

    What is ignored there stays ignored in children, and Python leaves it so.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run with a tiny network of random weights."""
    return make_run(tmp_path_factory.mktemp("runs") / "tiny")
