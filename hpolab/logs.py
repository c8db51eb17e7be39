"""Log lines: shown in Optuna's style and silenced as Optuna's are, unless an application logs."""

from __future__ import annotations

import logging
import sys

import optuna

__all__ = ["get_logger", "is_shown"]


class _LikeOptunas(logging.Handler):
    """Shows lines as Optuna shows its own, where the application has not set up any logging.

    Python alone would show warnings without a time, and nothing below: a run that ends well would
    end without a word.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if logging.getLogger().handlers:
            return  # they get it, too
        if _is_as_optuna_shows(record.levelno):
            # The stream of this moment: a progress bar or a notebook may have replaced it.
            stream = logging.StreamHandler(sys.stderr)
            stream.setFormatter(optuna.logging.create_default_formatter())
            stream.handle(record)


def is_shown(level: int) -> bool:
    """Tell whether anybody sees hpolab's lines of a level."""
    if logging.getLogger().handlers:
        return logging.getLogger(__name__.partition(".")[0]).isEnabledFor(level)
    return _is_as_optuna_shows(level)


def _is_as_optuna_shows(level: int) -> bool:
    # Optuna's lines may have been switched off with its handler, too.
    return logging.getLogger("optuna").hasHandlers() and level >= optuna.logging.get_verbosity()


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a file of hpolab.

    Its lines are shown from Optuna's verbosity on, ``INFO`` by default, which
    ``optuna.logging.set_verbosity`` changes. Where the application has set up Python's logging,
    they go there instead, and the level of the logger ``hpolab`` decides.

    Args:
        name: The file's ``__name__``.

    Example:
        >>> get_logger("hpolab.running.run").parent.name
        'hpolab'
    """
    root = logging.getLogger(__name__.partition(".")[0])
    if not any(isinstance(handler, _LikeOptunas) for handler in root.handlers):
        root.addHandler(_LikeOptunas())
        if root.level == logging.NOTSET:
            root.setLevel(logging.INFO)
    return optuna.logging.get_logger(name)
