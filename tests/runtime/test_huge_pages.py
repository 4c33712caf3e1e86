import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import os, sys
print("started", os.getpid(), flush=True)
from vocalsep_jax.runtime.huge_pages import restart_with_huge_pages
restart_with_huge_pages()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:])
"""


def start(**variables):
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"} | variables
    result = subprocess.run(
        [sys.executable, "-c", CODE, "an argument", "--flag"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_a_command_starts_again_once_in_the_same_process_with_the_same_arguments():
    first, second, last = start()
    assert first == second
    assert first.startswith("started ")
    assert last == "glibc.malloc.hugetlb=1 ['an argument', '--flag']"


def test_what_the_user_chose_is_left():
    assert start(GLIBC_TUNABLES="")[1:] == [" ['an argument', '--flag']"]
