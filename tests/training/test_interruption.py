import contextlib
import os
import signal
import threading

import pytest

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
