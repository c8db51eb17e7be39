"""Only one process at a time is in a claim, also behind one that was killed in it."""

from __future__ import annotations

import signal

import optuna
import pytest

from hpolab import make_study, open_storage
from hpolab.trial.claim import one_at_a_time

HOLD = """
import sys, time
from hpolab import load_study
from hpolab.trial.claim import one_at_a_time
study = load_study("shared", storage=sys.argv[1])
with one_at_a_time(study):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
"""

COUNT = """
import sys, time
from hpolab import load_study
from hpolab.trial.claim import one_at_a_time
study = load_study("shared", storage=sys.argv[1])
for _ in range(5):
    with one_at_a_time(study):
        n = study.user_attrs.get("n", 0)
        time.sleep(0.01)
        study.set_user_attr("n", n + 1)
"""


@pytest.mark.parametrize("scheme", ["sqlite:///{}/study.db", "journal:///{}/study.log"])
def test_no_two_processes_are_in_it_at_once(python, tmp_path, scheme):
    url = scheme.format(tmp_path)
    study = make_study("shared", storage=url)
    processes = [python.start(COUNT, url) for _ in range(3)]
    for process in processes:
        with process:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    assert study.user_attrs["n"] == 15
    assert optuna.get_all_study_names(open_storage(url)) == ["shared"]


def test_killed_holder_keeps_nobody_out(python, tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = make_study("shared", storage=url)
    with python.start(HOLD, url, "100") as process:
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    with one_at_a_time(study):
        pass
    assert optuna.get_all_study_names(study._storage) == ["shared"]


def test_error_inside_ends_the_claim():
    study = make_study("shared", storage="memory://")
    with pytest.raises(ZeroDivisionError), one_at_a_time(study):
        raise ZeroDivisionError
    with one_at_a_time(study):
        pass
