"""Fresh interpreters of workers: they find what the run finds, and only what can be sent is."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from hpolab import InvalidType, make_study, run

LIBRARY = str(Path(__file__).parents[2])


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/s.db"


def python(*arguments: str, cwd: Path) -> str:
    """Run Python in a folder; return what it printed, and check that it ended well."""
    environment = os.environ | {"PYTHONPATH": LIBRARY}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_an_objectives_programs_have_the_environment_of_the_run(url, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/a/folder/of/mine")
    child = "import os, sys; print(os.environ['PYTHONPATH'], repr(sys.stdin.read()))"

    def objective(trial):
        # A program that reads its standard input comes to its end.
        done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
        trial.set_user_attr("said", done.stdout.strip())
        return 1.0

    study = make_study("s", storage=url)
    run(study, objective, n_trials=1, n_workers=2)
    assert study.trials[0].user_attrs["said"] == "/a/folder/of/mine ''"


SCRIPT = """
    import sys
    from hpolab import make_study, run
    from mine import value

    def objective(trial):
        return value() + trial.number

    study = make_study("s", storage="sqlite:///a.db")
    run(study, objective, n_trials=2, n_workers=2)
    print(sorted(trial.value for trial in study.trials))
"""
BROKEN = "raise RuntimeError('a file of mine in the working folder')"


@pytest.mark.parametrize("way", ["script", "module", "package", "code"])
def test_workers_find_the_modules_of_the_run_and_no_others(way, tmp_path):
    scripts, work = tmp_path / "scripts", tmp_path / "work"
    (scripts / "pack").mkdir(parents=True)
    work.mkdir()
    for name in ("mine.py", "pack/__init__.py"):
        (scripts / name).write_text("def value():\n    return 5.0\n")
    script = textwrap.dedent(SCRIPT)
    (scripts / "tune.py").write_text(script)
    (scripts / "pack" / "tune.py").write_text(script.replace("from mine", "from ."))
    # Python's own `random` needs some of these.
    for name in ("statistics", "random", "hashlib", "json", "optuna", "cloudpickle"):
        (work / f"{name}.py").write_text(BROKEN)
    arguments, folder = {
        "script": ([str(scripts / "tune.py")], work),
        "module": (["-m", "tune"], scripts),
        "package": (["-m", "pack.tune"], scripts),
        "code": (["-c", script], scripts),
    }[way]
    assert python(*arguments, cwd=folder) == "[5.0, 6.0]"


def test_workers_have_what_a_script_has_put_on_the_path(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mine.py").write_text("def value():\n    return 5.0\n")
    script = "import sys; sys.path.insert(0, 'lib')\n" + textwrap.dedent(SCRIPT)
    assert python("-c", script, cwd=tmp_path) == "[5.0, 6.0]"


def test_a_module_that_workers_cannot_find_is_told_of(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "lib" / "mine.py").write_text("def value(trial):\n    return 5.0\n")
    script = """
        import os, sys
        sys.path.insert(0, "lib")
        from hpolab import InvalidArgument, make_study, run
        from mine import value

        os.chdir("elsewhere")
        study = make_study("s", storage="sqlite:///a.db")
        try:
            run(study, value, n_trials=2, n_workers=2)
        except InvalidArgument as error:
            print(error, sum(trial.state.is_finished() for trial in study.trials))
    """
    said = python("-c", textwrap.dedent(script), cwd=tmp_path)
    assert "must be such that a worker process can load them" in said
    assert "No module named 'mine'" in said
    assert said.endswith(" 0")


def test_workers_have_the_options_of_the_interpreter(tmp_path):
    script = """
        import sys
        from hpolab import make_study, run
        study = make_study("s", storage="sqlite:///a.db")
        run(study, lambda trial: sys.flags.optimize + 10 * sys.flags.utf8_mode, n_trials=1,
            n_workers=2)
        print(study.trials[0].value)
    """
    assert python("-O", "-X", "utf8", "-c", textwrap.dedent(script), cwd=tmp_path) == "11.0"


# What cannot be sent.


class Model:
    def __init__(self):
        self.parts = {"queue": [threading.Lock()]}

    def value(self, trial):
        return 1.0

    __call__ = value


def closure():
    model = Model()
    return lambda trial: model.value(trial)


def with_file(trial, file):
    return 1.0


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        pytest.param(Model(), "got Model, whose 'parts.queue.0' cannot be", id="object"),
        pytest.param(Model().value, r"got Model.value, whose 'self.parts.queue.0'", id="method"),
        pytest.param(closure(), "whose 'model.parts.queue.0' cannot be", id="closure"),
        pytest.param(
            functools.partial(with_file, file=threading.Lock()),
            "got partial, whose 'file' cannot be: cannot pickle '_thread.lock' object",
            id="partial",
        ),
    ],
)
def test_an_objective_that_cannot_be_sent_is_refused_before_a_trial(url, objective, message):
    study = make_study("s", storage=url)
    with pytest.raises(InvalidType, match=f"`objective` must be one that.*{message}"):
        run(study, objective, n_trials=2, n_workers=2)
    assert not any(trial.state.is_finished() for trial in study.trials)


def test_a_lock_of_the_script_is_named(tmp_path):
    script = """
        import threading
        from hpolab import InvalidType, make_study, run
        lock = threading.Lock()

        def objective(trial):
            with lock:
                return 1.0

        try:
            run(make_study("s", storage="sqlite:///a.db"), objective, n_trials=2, n_workers=2)
        except InvalidType as error:
            print(error)
    """
    said = python("-c", textwrap.dedent(script), cwd=tmp_path)
    assert "`objective` must be" in said
    assert "whose 'lock' cannot be: cannot pickle '_thread.lock' object" in said


def test_a_callback_that_cannot_be_sent_is_named(url):
    model = Model()
    with pytest.raises(InvalidType, match="`callbacks` must be one that"):
        run(
            make_study("s", storage=url),
            lambda trial: 1.0,
            n_trials=2,
            n_workers=2,
            callbacks=[lambda study, trial: model.value(trial)],
        )
