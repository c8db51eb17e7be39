"""The demo: killed half way it goes on, and then says that it is done."""

from __future__ import annotations

import signal
import time

import pytest

from hpolab import StudyNotFound, load_study


def n_finished(url: str, study_name: str) -> int:
    try:
        trials = load_study(study_name, storage=url).get_trials(deepcopy=False)
    except StudyNotFound:
        return 0
    return sum(trial.state.is_finished() for trial in trials)


DEMO = """
import sys
from hpolab.cli import app
app(sys.argv[1:])
"""
# Epochs of a third of the demo's own, which is a power of Hyperband's reduction factor, too.
SHORT_DEMO = "import hpolab.demo; hpolab.demo._MAX_EPOCHS = 5" + DEMO


@pytest.mark.parametrize(
    ("program", "n_trials"),
    [(SHORT_DEMO, 12), pytest.param(DEMO, 40, marks=pytest.mark.long)],
    ids=["short", "whole"],
)
def test_demo_killed_half_way_goes_on_and_then_says_that_it_is_done(
    program, n_trials, tmp_path, python
):
    url = f"sqlite:///{tmp_path}/demo.db"
    command = ["demo", "-s", url]
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
    assert "default (trial 0)" in resumed
    assert f"Next: hpolab best demo -s {url} -f yaml" in resumed
    assert n_finished(url, "demo") == n_trials

    done = python.output_of(program, *command)
    assert f"Study 'demo' is done: {n_trials} of {n_trials} trials." in done
    assert "default (trial 0)" in done
    assert n_finished(url, "demo") == n_trials
