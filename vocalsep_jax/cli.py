"""The console script `vocalsep`: a name for the commands that users of a model need."""

from __future__ import annotations

import argparse
import importlib
import sys

from vocalsep_jax import __version__
from vocalsep_jax.runtime.huge_pages import restart_with_huge_pages

COMMANDS = {
    "separate": ("vocalsep_jax.separate", "split songs into vocals and the rest"),
    "catalogue": ("vocalsep_jax.catalogue", "split many songs on an Apache Beam engine"),
    "serve": ("vocalsep_jax.serve", "a page on which songs are separated and mixed"),
    "models": ("vocalsep_jax.list_models", "list the models that come with this package"),
    "evaluate": ("vocalsep_jax.evaluate", "score checkpoints on songs whose stems are known"),
    "export": ("vocalsep_jax.export", "write a trained model for use elsewhere"),
    "data": ("vocalsep_jax.data_tools", "look after folders of songs: data check"),
}


def main() -> int:
    """The command; returns its exit code."""
    restart_with_huge_pages()
    listed = "\n".join(f"  {name:10}{what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="vocalsep",
        description="Singing-voice separation.",
        epilog=f"commands:\n{listed}\n\nvocalsep COMMAND --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vocalsep_jax {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    module, _ = COMMANDS[options.command]
    return int(importlib.import_module(module).main(options.arguments))


if __name__ == "__main__":
    sys.exit(main())
