"""The command line, from the commands themselves: what each does, its arguments and options."""

from __future__ import annotations

import inspect
from typing import Any

import typer.main

from hpolab.cli import app

__all__ = ["commands"]


def commands() -> str:
    """Return a section for each command."""
    group: Any = typer.main.get_command(app)
    return "\n".join(_section(f"hpolab {name}", group.commands[name]) for name in group.commands)


def _section(name: str, command: Any) -> str:
    parameters = [each for each in command.params if not getattr(each, "hidden", False)]
    usage = [name, *(_shown(each) for each in parameters if each.param_type_name == "argument")]
    options = [each for each in parameters if each.param_type_name == "option"]
    usage += ["[OPTIONS]"] if options else []
    parts = [f"## `{name}`", f"```text\n{' '.join(usage)}\n```", inspect.cleandoc(command.help)]
    if parameters:
        rows = "\n".join(_row(each) for each in parameters)
        parts.append(f"| argument or option | meaning | default |\n|---|---|---|\n{rows}")
    return "\n\n".join(parts) + "\n"


def _shown(parameter: Any) -> str:
    """Return an argument as the usage line has it."""
    metavar = str(parameter.metavar or parameter.name.upper())
    return metavar if parameter.required or metavar.startswith("[") else f"[{metavar}]"


def _row(parameter: Any) -> str:
    is_flag = getattr(parameter, "is_flag", False)
    if parameter.param_type_name == "argument":
        spelled = f"`{_shown(parameter)}`"
    else:
        names = [*sorted(parameter.opts, key=len, reverse=True), *parameter.secondary_opts]
        value = "" if is_flag else f" `{_metavar(parameter)}`"
        spelled = ", ".join(f"`{name}`" for name in names) + value
    said = (parameter.help or "").replace("|", r"\|")
    if parameter.envvar:
        said += f" Environment variable: `{parameter.envvar}`."
    return f"| {spelled} | {said} | {_default(parameter, is_flag)} |"


def _metavar(parameter: Any) -> str:
    choices = getattr(parameter.type, "choices", None)
    if parameter.metavar:
        return str(parameter.metavar).replace("|", r"\|")
    if choices:
        return r"\|".join(str(getattr(each, "value", each)) for each in choices)
    return str(parameter.type.name).upper()


def _default(parameter: Any, is_flag: bool) -> str:
    default = getattr(parameter.default, "value", parameter.default)
    if parameter.required:
        return "required"
    return "" if default is None or default == "" or is_flag else f"`{default}`"
