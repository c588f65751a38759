"""`probebench ...`, one file a subcommand."""

from probebench.cli.main import main

__all__ = ["main"]
