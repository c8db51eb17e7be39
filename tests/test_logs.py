"""Where log lines go: to standard error as Optuna's do, or to the application's own logging."""

from __future__ import annotations

import logging

import pytest

from hpolab.logs import get_logger

SCRIPT = """
import sys
import optuna
from hpolab.logs import get_logger
{before}
logger = get_logger("hpolab.some.file")
logger.info("an information")
logger.warning("a warning")
"""


def shown(python, before: str = "") -> str:
    return python.run(SCRIPT.format(before=before)).stderr


def test_lines_are_shown_without_a_terminal_in_optuna_s_style(python):
    information, warning = shown(python).splitlines()
    assert information.startswith("[I ")
    assert information.endswith("] an information")
    assert warning.startswith("[W ")


@pytest.mark.parametrize(
    ("level", "n_lines"), [("INFO", 2), ("WARNING", 1), ("ERROR", 0), ("CRITICAL", 0)]
)
def test_optuna_s_verbosity_silences_them(python, level, n_lines):
    lines = shown(python, f"optuna.logging.set_verbosity(optuna.logging.{level})").splitlines()
    assert len(lines) == n_lines


def test_they_are_silent_where_optuna_s_handler_is_switched_off(python):
    assert shown(python, "optuna.logging.disable_default_handler()") == ""


def test_the_application_s_logging_shows_them_once(python):
    lines = shown(python, "import logging; logging.basicConfig(format='app: %(message)s')")
    assert lines.splitlines() == ["app: an information", "app: a warning"]


def test_the_application_may_set_the_level_of_hpolab(python):
    before = "import logging; logging.getLogger('hpolab').setLevel('WARNING')"
    assert "an information" not in shown(python, before)


def test_a_stream_that_stands_in_for_standard_error_gets_them(python):
    before = "import io; sys.stderr = io.StringIO(); import atexit; "
    before += "atexit.register(lambda: print('stood in:', sys.stderr.getvalue()))"
    done = python.run(SCRIPT.format(before=before), cold=True)
    assert "a warning" in done.stdout
    assert "a warning" not in done.stderr


def test_a_logger_has_the_name_of_its_file():
    assert get_logger("hpolab.x.y") is logging.getLogger("hpolab.x.y")
