import multiprocessing
import os

import pytest

from vocalsep_jax.runs import lock
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runs.lock import held


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    with (
        held(tmp_path, writes=True),
        pytest.raises(RunError, match=rf"another training .* there \(process {os.getpid()} of "),
        held(tmp_path, writes=True),
    ):
        pytest.fail("held twice")
    with held(tmp_path, writes=True):
        pass


def _hold_and_die(folder, holds):
    with held(folder, writes=True):
        holds.set()
        os._exit(9)


def test_a_crash_leaves_no_lock_behind(tmp_path):
    context = multiprocessing.get_context("spawn")
    holds = context.Event()
    process = context.Process(target=_hold_and_die, args=(tmp_path, holds))
    process.start()
    process.join()
    assert holds.is_set()
    with held(tmp_path, writes=True):
        pass


def test_a_process_that_does_not_write_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "any_process", lambda flag: True)
    with pytest.raises(RunError, match="another training is running there;"), held(tmp_path, writes=False):
        pytest.fail("held")


def test_where_there_are_no_locks_it_goes_on_with_a_warning(tmp_path, monkeypatch, caplog):
    def flock(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with held(tmp_path, writes=True):
        pass
    (message,) = caplog.messages
    assert message.endswith("Operation not supported; nothing prevents a second training in this folder")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(RunError, match="No such file"), held(tmp_path / "none", writes=True):
        pytest.fail("held")
