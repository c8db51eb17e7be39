"""The command line, from the commands themselves: what each does, its arguments and options."""

from __future__ import annotations

import inspect
import re
from typing import Any

import typer.main

from hpolab.cli import app

__all__ = ["commands"]


def commands() -> str:
    """Return a section for each command."""
    group: Any = typer.main.get_command(app)
    return "\n".join(_section(f"hpolab {name}", group.commands[name]) for name in group.commands)


def _section(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    usage = usage.replace("[[", "[").replace("]]", "]").replace("{", "").replace("}", "")
    parts = [f"## `{name}`", f"```text\n{usage}\n```", inspect.cleandoc(command.help)]
    # As `--help` has it: the names with their value, and the meaning.
    records = [each.get_help_record(context) for each in command.get_params(context)]
    rows = [_row(*record) for record in records if record is not None and "--help" not in record[0]]
    if rows:
        parts.append("\n".join(["| argument or option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _row(spelled: str, said: str) -> str:
    # "[env var: HPOLAB_STORAGE; default: sqlite:///hpolab.db]" at the end, apart from the sentence.
    text, _, extra = said.partition("  [")
    notes = [f"{note.strip()}" for note in extra.rstrip("]").split(";") if note.strip()]
    shown = "; ".join(re.sub(r"^(\w[\w ]*): (.*)$", r"\1 `\2`", note) for note in notes)
    meaning = f"{text} ({shown})" if shown else text
    spelled = spelled.removesuffix(" <str>") if spelled.startswith("[") else spelled
    return f"| `{_cell(spelled)}` | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
