"""The demo: killed half way it goes on; it ends with a verdict, a report, and what to do next."""

from __future__ import annotations

import signal
import sys
import time

import pytest
from typer.testing import CliRunner

from hpolab import StudyNotFound, load_study
from hpolab.cli import app


def n_finished(url: str, study_name: str) -> int:
    try:
        trials = load_study(study_name, storage=url).get_trials(deepcopy=False)
    except StudyNotFound:
        return 0
    return sum(trial.state.is_finished() for trial in trials)


# It trains a CNN on digits, in processes of its own.
pytestmark = pytest.mark.needs("torch", "sklearn")

DEMO = """
import sys
from hpolab.cli import app
app(sys.argv[1:])
"""
# A training of three epochs is a power of Hyperband's reduction factor, too.
SHORT_DEMO = "import hpolab.demo; hpolab.demo._MAX_EPOCHS = 3; hpolab.demo._N_SEEDS = 2" + DEMO


@pytest.mark.parametrize(
    ("program", "n_trials"),
    [(SHORT_DEMO, 9), pytest.param(DEMO, 40, marks=pytest.mark.long)],
    ids=["short", "whole"],
)
def test_demo_killed_half_way_goes_on_and_then_says_that_it_is_done(
    program, n_trials, tmp_path, python
):
    url = f"sqlite:///{tmp_path}/demo.db"
    report = tmp_path / "demo.html"
    command = ["demo", "-s", url, "-o", str(report)]
    command += [] if n_trials == 40 else ["-n", str(n_trials)]  # 40 is the default
    with python.start(program, *command) as demo:
        deadline = time.monotonic() + 120
        while n_finished(url, "demo") < n_trials // 3:
            assert time.monotonic() < deadline, "the demo finished no third in two minutes"
            time.sleep(0.05)
        demo.send_signal(signal.SIGKILL)
        demo.wait(timeout=10)
    n_killed = n_finished(url, "demo")
    assert n_trials // 3 <= n_killed < n_trials

    resumed = python.output_of(program, *command, timeout=240)
    assert f"Resuming study 'demo' after {n_killed} of {n_trials} trials." in resumed
    assert f"{n_trials} trials:" in resumed
    assert "Does the gain hold? " in resumed
    assert "new data like these 797 test rows" in resumed
    assert f"Wrote the report {report}" in resumed
    assert f"Next: hpolab best demo -s {url} -f yaml" in resumed
    assert n_finished(url, "demo") == n_trials
    assert "</html>" in report.read_text(encoding="utf-8")
    if n_trials == 40:
        assert "is better than the default" in resumed

    done = python.output_of(program, *command)
    assert f"Study 'demo' is done: {n_trials} of {n_trials} trials." in done
    assert table_in(done) == table_in(resumed)
    assert n_finished(url, "demo") == n_trials


def table_in(output: str) -> str:
    return output[output.index("in tuning") : output.index("Does the gain hold?")]


@pytest.fixture
def shortest(monkeypatch):
    monkeypatch.setattr("hpolab.demo._MAX_EPOCHS", 1)
    monkeypatch.setattr("hpolab.demo._N_SEEDS", 2)


@pytest.mark.parametrize(
    ("option", "display", "opens"),
    [([], True, True), ([], False, False), (["--no-open"], True, False)],
    ids=["a display", "no display", "not wanted"],
)
def test_report_of_the_demo_opens_only_before_a_person(
    option, display, opens, tmp_path, monkeypatch, shortest
):
    monkeypatch.setattr("hpolab.commands.demonstrating.has_display", lambda: display)
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    report = tmp_path / "demo.html"
    command = ["demo", "-n", "2", "-s", f"{tmp_path}/demo.db", "-o", str(report), *option]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert opened == ([report.as_uri()] if opens else [])


def test_demo_without_the_reports_extra_says_what_to_install(tmp_path, monkeypatch, shortest):
    monkeypatch.setitem(sys.modules, "plotly", None)
    command = ["demo", "-n", "2", "-s", f"{tmp_path}/demo.db", "-o", str(tmp_path / "demo.html")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "pip install 'hpolab[report]'" in done.output
    assert "Next: hpolab best demo" in done.output
