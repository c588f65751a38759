"""The command `probebench`, one module per subcommand."""

from probebench.cli.main import main

__all__ = ["main"]
