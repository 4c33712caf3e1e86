import os
import subprocess
import sys

from tests.conftest import ROOT

COMPILE = """
import jax
from vocalsep_jax.runtime.compile_cache import use_compile_cache
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
use_compile_cache()
print(jax.config.jax_compilation_cache_dir)
jax.jit(lambda x: x @ x + 1)(jax.numpy.ones((64, 64))).block_until_ready()
print(events.count('/jax/compilation_cache/cache_hits') > 0)
"""


def start(home, **variables):
    """Folder of the cache, and whether a program came from it."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"HOME": str(home), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"} | variables
    result = subprocess.run(
        [sys.executable, "-c", COMPILE], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    folder, hit = result.stdout.split()
    return folder, hit == "True"


def test_the_second_start_compiles_nothing(tmp_path):
    folder, hit = start(tmp_path)
    assert folder.startswith(str(tmp_path / ".cache" / "vocalsep_jax" / "compiled"))
    assert not hit
    assert start(tmp_path) == (folder, True)


def test_a_folder_chosen_before_is_kept(tmp_path):
    chosen = str(tmp_path / "mine")
    assert start(tmp_path, JAX_COMPILATION_CACHE_DIR=chosen)[0] == chosen
    assert not (tmp_path / ".cache").exists()


def test_where_no_folder_can_be_made_there_is_no_cache(tmp_path):
    (tmp_path / ".cache").write_text("in the way")
    assert start(tmp_path) == ("None", False)
