"""What goes to a terminal: text as it is, whatever it is made of.

Names, values, paths and messages are the user's own text, and rich reads markup in every text that
it prints: of "resnet[bs=32]" it shows "resnet", and at "runs[/old]" it raises an error.
"""

from __future__ import annotations

import shlex
from typing import Any, final

from rich.console import Console
from rich.text import Text

from hpolab.storage.redaction import redact
from hpolab.tables import printable

__all__ = ["PlainConsole", "command_line"]


@final
class PlainConsole(Console):
    """A console of rich that never reads text: no markup, no emoji codes, no escape sequences.

    Nothing is wrapped either, so that names and commands can be copied. Styles are given apart.

    Args:
        stderr: Whether it prints to standard error.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text as it is, for all that `print` is given."""
        for name in ("markup", "emoji", "highlight"):
            options[name] = False
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)

    def say(self, label: str, text: str, *, style: str) -> None:
        """Print a label in a style, and text behind it."""
        self.print(Text(label, style=style), text)


def command_line(command: str, study_name: str, *options: str, storage: str) -> str:
    """Return a command of hpolab's for a shell: it works as it stands, but for a password.

    Example:
        >>> command_line("status", "my study (2)", storage="sqlite:///a.db")
        "hpolab status 'my study (2)' -s sqlite:///a.db"
        >>> command_line("best", "-1", "-f", "yaml", storage="sqlite:///a.db")
        'hpolab best -s sqlite:///a.db -f yaml -- -1'
        >>> command_line("best", "s", storage="redis://:secret@host/0")
        'hpolab best s -s redis://:***@host/0 (with the password in the place of ***)'
    """
    # A file's URL has no password, only a path that may look as if it had.
    is_file = storage.startswith(("sqlite:", "journal:"))
    shown = storage if is_file else redact(storage)
    # Behind `--`, a name that begins like an option is a name.
    first, last = ([], ["--", study_name]) if study_name.startswith("-") else ([study_name], [])
    if shown == storage:
        return shlex.join(["hpolab", command, *first, "-s", shown, *options, *last])
    # The stars are to be replaced, and ask for no quotes.
    safe = shlex.quote(shown.replace("***", "")) == shown.replace("***", "")
    url = shown if safe else shlex.quote(shown)
    line = f"{shlex.join(['hpolab', command, *first, '-s'])} {url} {shlex.join([*options, *last])}"
    return f"{line.rstrip()} (with the password in the place of ***)"
