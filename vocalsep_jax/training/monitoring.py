"""What a run tells while it trains: history, figures, TensorBoard, and the progress line."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vocalsep_jax.runs.folder import one_line_errors
from vocalsep_jax.runs.history import History, Line, read_history
from vocalsep_jax.runtime.console import duration
from vocalsep_jax.training import figures
from vocalsep_jax.training.figures import FIGURES, Snapshot

log = logging.getLogger(__name__)

_DRAWN_BY_TENSORBOARD = ("curves",)
"""Figures that TensorBoard is not given: it draws the same from the numbers."""


class Monitor:
    """Writes what is measured; on all processes but the first it writes nothing.

    Curves are drawn from `history.jsonl`. Resuming cuts it back to the checkpoint's step, so that it never
    tells of steps twice.
    """

    def __init__(self, run: Path, *, writes: bool, resume_step: int):
        """Open the run's record; `resume_step` is the step the state is at."""
        self._run = run
        self._writes = writes
        self._draws = writes and importlib.util.find_spec("matplotlib") is not None
        earlier = [h for h in read_history(run) if h["step"] <= resume_step]
        self._history = History(run, earlier, writes=writes)
        if not writes:
            return
        if not self._draws:
            log.info("no figures: they need the train extra (no matplotlib)")
        self._board_folder = run / "tensorboard"
        self._board = _open_board(self._board_folder)

    @property
    def history(self) -> list[Line]:
        """The lines of the history so far."""
        return self._history.lines

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, kind: str, step: int, epoch: float, values: Mapping[str, Any]) -> None:
        """Append a line of `kind` ("train" or "valid") to the history and to TensorBoard.

        Raises:
          OSError, RunError: if that, or what TensorBoard was given before, cannot be written.
        """
        line = {"kind": kind, "step": step, "epoch": round(epoch, 6), **values}
        self._history.append(line)
        if self._writes and self._board:
            scalars = {f"{kind}/{k}": v for k, v in values.items() if isinstance(v, (int, float))}
            with self._board_errors():
                self._board.write_scalars(step, scalars)

    def figures(self, step: int, snapshot: Callable[[], Snapshot]) -> None:
        """Draw all `FIGURES` into `figures/`; TensorBoard gets those that it does not draw itself."""
        if not self._draws:
            return
        facts = snapshot()
        for name, draw in FIGURES.items():
            pixels = figures.draw(draw(facts))
            figures.save(pixels, self._run / "figures" / f"{name}.png")
            if self._board and name not in _DRAWN_BY_TENSORBOARD:
                with self._board_errors():
                    self._board.write_images(step, {name: pixels[None]})

    def audio(self, step: int, clips: Mapping[str, np.ndarray], sample_rate: int) -> None:
        """Send clips `[S, C]`, clipped to [-1, 1], at a sample rate in Hz, to TensorBoard."""
        if self._writes and self._board:
            batches = {name: np.clip(x, -1, 1)[None] for name, x in clips.items()}
            with self._board_errors():
                self._board.write_audios(step, batches, sample_rate=sample_rate)

    def close(self) -> None:
        """Wait until everything is written; errors as `record` has them."""
        if self._writes:
            try:
                self._history.close()
            finally:
                if self._board:
                    with self._board_errors():
                        self._board.close()

    def _board_errors(self) -> contextlib.AbstractContextManager[None]:
        return one_line_errors(self._board_folder, "written")


def _open_board(folder: Path) -> Any:
    """A writer of TensorBoard's records, or None where it cannot be had."""
    try:  # here, because TensorFlow takes seconds to import
        from vocalsep_jax.runtime import quiet_tensorflow  # noqa: F401, before clu imports TensorFlow its own way

        from clu import metric_writers  # isort: skip
    except ImportError as error:
        log.info("no TensorBoard records: they need the train extra (no %s)", error.name)
        return None
    return metric_writers.AsyncMultiWriter([metric_writers.SummaryWriter(str(folder))])


def parameter_table(params: Any) -> str:
    """Names, shapes and sizes of all parameters, as text; without clu their number only."""
    try:
        from clu import parameter_overview
    except ImportError:
        return f"{sum(x.size for x in jax.tree.leaves(params)):,} parameters"
    return parameter_overview.get_parameter_overview(params, include_stats="global")


class Progress:
    """The progress line: how far, how good, how fast, how long still."""

    def __init__(self, step: int, last_step: int):
        """Start counting at `step`."""
        self._begin, self._first, self._last = time.monotonic(), step, last_step

    def line(self, step: int, epoch: float, epochs: int, values: Mapping[str, float]) -> str:
        """The line to show at `step`."""
        elapsed = time.monotonic() - self._begin
        left = elapsed / max(step - self._first, 1) * (self._last - step)
        return (
            f"step {step}/{self._last}  epoch {epoch:.2f}/{epochs}  loss {values['loss']:.4f}  "
            f"dice {values['dice']:.3f}  {values['patches_per_second']:.1f} patches/s  "
            f"waiting for data {100 * values['data_wait_fraction']:.1f} %  "
            f"{duration(left)} left"
        )
