import os

import pytest

from vocalsep_jax.runtime.memory import available_memory


def machine(root, meminfo=None, limit=None):
    """What a machine has whose kernel and container say so much."""
    files = {
        "proc/meminfo": meminfo,
        "sys/fs/cgroup/memory.max": limit,
        "sys/fs/cgroup/memory.current": "100",
    }
    for name, text in files.items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return available_memory(root)


def test_on_linux_it_is_what_the_kernel_says(tmp_path):
    assert machine(tmp_path, "MemTotal: 9 kB\nMemAvailable:     3 kB\n", "max\n") == 3 * 1024


def test_in_a_container_it_is_what_is_left_of_its_limit(tmp_path):
    assert machine(tmp_path, "MemAvailable: 3 kB\n", "1100\n") == 1000


def test_nothing_is_left_where_the_limit_is_passed(tmp_path):
    assert machine(tmp_path, "MemAvailable: 3 kB\n", "50\n") == 0


@pytest.mark.parametrize("meminfo", [None, "", "MemTotal: 9 kB\n", "MemAvailable: much\n"])
def test_elsewhere_it_is_half_of_all(tmp_path, meminfo):
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine(tmp_path, meminfo) == total // 2
