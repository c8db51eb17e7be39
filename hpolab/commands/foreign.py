"""What people type who know other tools: each word, and the command that does it here."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from hpolab.storage.location import is_location

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["advice_for"]

_RUN = (
    "a study is run by a script, and goes on when the script is started again; one more process "
    "joins it by `hpolab worker MODULE:OBJECTIVE --study NAME`."
)
_IN_PYTHON = "this needs the objective and data of a script: `hpolab.{0}(study, objective, …)`."
_STATUS = "`hpolab status` lists the studies."
_BEST = "`hpolab best STUDY` shows the best configuration; `-f yaml` writes it."
_REPORT = "`hpolab report STUDY` writes a report to look at in a browser."
_IMPORT = "`hpolab import runs.csv --value COLUMN` makes a study of a table of runs."

_OTHER_WORDS = {
    **dict.fromkeys(("list", "ls", "studies", "info", "trials", "monitor", "watch", "ps"), _STATUS),
    **dict.fromkeys(("run", "resume", "continue", "tune", "optimize", "start", "train"), _RUN),
    **dict.fromkeys(("create", "create-study", "init", "new"), _RUN),
    **dict.fromkeys(("agent", "join", "ask", "tell"), _RUN),
    **{word: _IN_PYTHON.format(word) for word in ("confirm", "compare", "sweep")},
    **dict.fromkeys(("best-trial", "params", "export", "get", "best-trials"), _BEST),
    **dict.fromkeys(("dashboard", "ui", "plot", "show", "view", "visualize", "html"), _REPORT),
    **dict.fromkeys(("rm", "remove", "delete-study", "del"), "`hpolab delete STUDY` deletes it."),
    **dict.fromkeys(
        ("cp", "move", "mv", "migrate"), "`hpolab copy STUDY --to FILE|URL` copies it."
    ),
    **dict.fromkeys(("import-runs", "import_runs", "load", "csv"), _IMPORT),
    **dict.fromkeys(
        ("importance", "importances", "effects", "analyze"),
        "`hpolab influence STUDY` shows which parameters matter.",
    ),
    **dict.fromkeys(("example", "tutorial", "quickstart"), "`hpolab demo` shows it at work."),
    "version": "`hpolab --version` shows it.",
    "help": "`hpolab --help` lists the commands, `hpolab COMMAND --help` explains one.",
}


def advice_for(word: str, commands: Iterable[str]) -> str:
    """Return what to type instead of a command that there is not.

    Example:
        >>> advice_for("list", ["status"])
        "No such command 'list': `hpolab status` lists the studies."
        >>> advice_for("statsu", ["status"])
        "No such command 'statsu'. Did you mean 'status'?"
    """
    start = f"No such command {word!r}"
    if word.lower() in _OTHER_WORDS:
        return f"{start}: {_OTHER_WORDS[word.lower()]}"
    if is_location(word):
        return f"{start}: `hpolab status {word}` shows its studies."
    near = get_close_matches(word.lower(), [*commands, *_OTHER_WORDS], n=1)
    if not near:
        return f"{start}. `hpolab --help` lists the commands."
    meant = _OTHER_WORDS.get(near[0])
    return f"{start}. Did you mean {near[0]!r}?" if meant is None else f"{start}: {meant}"
