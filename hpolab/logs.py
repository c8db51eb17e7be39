"""Log lines: shown in Optuna's style and silenced as Optuna's are, unless an application logs."""

from __future__ import annotations

import logging
import sys

import optuna

__all__ = ["get_logger"]

_ROOT = __name__.partition(".")[0]


class _LikeOptunas(logging.Handler):
    """Hands lines to the application's own logging, or shows them as Optuna shows its lines.

    Python alone would show warnings without a time, and nothing below: a run that ends well would
    end without a word.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        application = logging.getLogger()
        if application.handlers:
            if application.isEnabledFor(record.levelno):
                application.handle(record)
        elif record.levelno >= optuna.logging.get_verbosity() and _optuna_shows():
            # The stream of this moment: a progress bar or a notebook may have replaced it.
            shown = logging.StreamHandler(sys.stderr)
            shown.setFormatter(optuna.logging.create_default_formatter())
            shown.handle(record)


def _optuna_shows() -> bool:
    """Tell whether Optuna's own lines are shown: its default handler can be taken away."""
    return logging.getLogger("optuna").hasHandlers()


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a file of hpolab.

    Its lines are shown from Optuna's verbosity on, ``INFO`` by default, which
    ``optuna.logging.set_verbosity`` changes. Where the application has set up Python's logging,
    they go there instead.

    Args:
        name: The file's ``__name__``.

    Example:
        >>> get_logger("hpolab.running.run").parent.name
        'hpolab'
    """
    root = logging.getLogger(_ROOT)
    if not any(isinstance(handler, _LikeOptunas) for handler in root.handlers):
        root.addHandler(_LikeOptunas())
        root.propagate = False
        if root.level == logging.NOTSET:
            root.setLevel(logging.INFO)
    return optuna.logging.get_logger(name)
