import signal
import sys
import threading

import pytest

from vocalsep_jax.runtime import console


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3599.6, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, text):
    assert console.duration(seconds) == text


def test_one_line_whatever_is_in_it():
    assert console.one_line("a\nb\tc\x1b[31m\u2028d\udcff 歌") == "a\\nb\\tc\\x1b[31m\\u2028d\\udcff 歌"


def test_what_is_said_goes_out_in_one_piece(monkeypatch):
    pieces = []

    class Output:
        def write(self, text):
            pieces.append(text)

        def flush(self):
            pieces.append("flushed")

    monkeypatch.setattr(sys, "stdout", Output())
    console.say("a\nb")
    assert [piece for piece in pieces if piece] == ["a\nb\n", "flushed"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_termination_is_an_interruption_within_the_block_alone():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), console.terminated_as_interrupted():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_where_nobody_reads_any_more_a_command_goes_on(monkeypatch, tmp_path):
    """What is left in the output's buffer goes nowhere, rather than failing at the end."""
    with (tmp_path / "output").open("w+") as file:

        class Closed:
            def write(self, text):
                raise BrokenPipeError

            def flush(self):
                pass

            fileno = file.fileno

        monkeypatch.setattr(sys, "stdout", Closed())
        console.say("a")
        file.write("left in the buffer")
    assert (tmp_path / "output").read_text() == ""


def test_on_another_thread_signals_are_left_alone():
    seen = []

    def work():
        with console.terminated_as_interrupted():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
