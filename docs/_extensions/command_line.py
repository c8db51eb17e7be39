"""The command line, from the commands themselves."""

from __future__ import annotations

import typer.main

from hpolab.cli import app

__all__ = ["commands"]


def commands() -> str:
    """Return a section for each command: what it does, its arguments and options."""
    group = typer.main.get_command(app)
    return "\n".join(
        f"## `hpolab {name}`\n\n{command.help}" for name, command in group.commands.items()
    )
