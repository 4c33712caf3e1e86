"""It ends the process that it is in: so each is one of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import logging, time
logging.basicConfig(format="%(message)s")
from vocalsep_jax.training.watchdog import Watchdog
with Watchdog({seconds}) as watchdog:
    for _ in range(15):
        time.sleep(0.1)
        {every}
print("done")
"""


@pytest.mark.parametrize(
    ("seconds", "every", "ends"),
    [(0.5, "pass", 1), (10, "pass", 0), (0.5, "watchdog.called(None)", 0), (0, "pass", 0)],
    ids=["stuck", "in time", "progress", "no limit"],
)
def test_a_process_without_progress_ends_with_an_error(seconds, every, ends):
    program = PROGRAM.format(seconds=seconds, every=every)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == ends
    if ends:
        assert result.stderr.startswith("error: no step was finished for 0 s: another process hangs")
        (_,) = result.stderr.splitlines()
    else:
        assert (result.stdout, result.stderr) == ("done\n", "")


def test_it_is_quiet_once_it_is_left():
    program = PROGRAM.format(seconds=0.3, every="watchdog.called(None)") + "time.sleep(1)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
