"""What is due when in a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Due(NamedTuple):
    """What is to be done after a step."""

    log: bool
    validate: bool
    checkpoint: bool


@dataclass(frozen=True)
class Schedule:
    """When things are due, in steps.

    Attributes:
      steps_per_epoch, epochs: steps of an epoch, and number of epochs.
      log_every: steps between log lines; an epoch's end is always logged.
      validate_every: epochs between validations; the last epoch is always validated.
      checkpoint_every: steps between checkpoints, besides those by time and after validation; 0 for none.
    """

    steps_per_epoch: int
    epochs: int
    log_every: int
    validate_every: int
    checkpoint_every: int

    @property
    def last_step(self) -> int:
        """Steps in all."""
        return self.steps_per_epoch * self.epochs

    def due(self, step: int) -> Due:
        """What is due when `step` steps have been taken."""
        epoch, within = divmod(step, self.steps_per_epoch)
        validate = within == 0 and (epoch % self.validate_every == 0 or step == self.last_step)
        return Due(
            log=step % self.log_every == 0 or within == 0,
            validate=validate,
            checkpoint=validate or (self.checkpoint_every > 0 and step % self.checkpoint_every == 0),
        )

    def next_due(self, step: int) -> int:
        """The first step after `step` with which something is due."""
        intervals = [self.log_every, self.steps_per_epoch, self.checkpoint_every]
        return min((step // n + 1) * n for n in intervals if n > 0)
