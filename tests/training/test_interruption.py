import contextlib
import os
import signal
import threading

import pytest

from vocalsep_jax.training import interruption
from vocalsep_jax.training.interruption import Interruption


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop(number, caplog):
    caplog.set_level("INFO")
    with Interruption() as interruption:
        assert (interruption.signal, interruption.name) == (0, "")
        send(number)
        assert (interruption.signal, interruption.name) == (number, number.name)
    assert caplog.messages == [f"{number.name}: stopping after the steps under way"]


def test_a_second_ctrl_c_stops_at_once_and_a_second_sigterm_does_not():
    with Interruption() as interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            send(number)
            assert interruption.signal == number
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_afterwards_signals_are_handled_as_before():
    def handler(*_):
        pass

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with contextlib.suppress(RuntimeError), Interruption():
            assert signal.getsignal(signal.SIGTERM) is not handler
            raise RuntimeError
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def run():
        with Interruption() as interruption:
            seen.extend([interruption.signal, signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [0, before]


class TestSeveralProcesses:
    """As one process sees them; `tests/commands/test_main.py` has real ones."""

    @pytest.fixture(autouse=True)
    def service(self, monkeypatch):
        """What the preemption service was asked, and the number that all stop at."""
        asked, agreed = [], []

        def reached(number):
            asked.append(number)
            return number in agreed

        monkeypatch.setattr(interruption.jax, "process_count", lambda: 2)
        monkeypatch.setattr(interruption.multihost_utils, "reached_preemption_sync_point", reached)
        return asked, agreed

    def test_they_stop_where_they_have_agreed_to_and_count_without_gaps(self, service):
        asked, agreed = service
        agreed.append(3)
        with Interruption() as asking:
            assert [asking.stops_here() for _ in range(3)] == [False, False, True]
        assert asked == [1, 2, 3]
        assert asking.signal == signal.SIGTERM

    def test_sigterm_is_the_services(self):
        before = signal.getsignal(signal.SIGTERM)
        with Interruption():
            assert signal.getsignal(signal.SIGTERM) is before

    def test_ctrl_c_becomes_a_sigterm_for_the_service(self, service):
        seen = []
        before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
        try:
            with Interruption() as asking:
                send(signal.SIGINT)
                assert seen == [signal.SIGTERM]
                assert not asking.stops_here()  # not before the others
                service[1].append(2)
                assert asking.stops_here()
                assert asking.name == "SIGINT"
        finally:
            signal.signal(signal.SIGTERM, before)
