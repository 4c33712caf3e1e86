"""The options of Apache Beam from its flags, for the commands that run a pipeline."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


def pipeline_options(flags: Sequence[str]) -> PipelineOptions:
    """Beam's options from its flags; from then on it logs warnings only, not each stage.

    Raises:
      ValueError: for a flag that it does not know, or a wrong value; or if it is not installed.
    """
    if importlib.util.find_spec("apache_beam") is None:
        raise ValueError("this needs Apache Beam: pip install 'vocalsep_jax[beam]'")
    from apache_beam.options.pipeline_options import PipelineOptions

    logging.getLogger("apache_beam").setLevel(logging.WARNING)

    def refuse_unknown(parser: Any) -> None:
        if unknown := parser.parse_known_args(flags)[1]:
            raise ValueError(f"Beam has no flag {unknown[0]}")

    options = PipelineOptions(list(flags))
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            options.get_all_options(add_extra_args_fn=refuse_unknown)
        except SystemExit as stop:
            if not stop.code:  # --help
                raise
            raise ValueError(f"Beam: {said.getvalue().strip().splitlines()[-1]}") from stop
    return options
