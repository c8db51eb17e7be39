"""copy_study and `hpolab copy`: the copy is the study, and goes on as the study would have."""

from __future__ import annotations

import itertools
import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import NSGAIISampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState, create_trial
from optuna_dashboard import get_note, save_note
from optuna_dashboard.artifact._backend import list_trial_artifacts
from optuna_dashboard.preferential._system_attrs import (
    get_preferences,
    is_skipped_trial,
    report_preferences,
    report_skip,
)
from typer.testing import CliRunner

from hpolab import (
    InvalidArgument,
    Objective,
    Reporter,
    SearchSpace,
    StorageUnavailable,
    StudyNotFound,
    copy_study,
    load_study,
    make_study,
    open_storage,
    run,
)
from hpolab.cli import app
from hpolab.running import copying as copying_module
from hpolab.studies.study import COPY_KEY
from hpolab.trial.checkpoint import Checkpoint, TrialCheckpoints, default_store
from hpolab.trial.lease import Lease, requeue_trial

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study, Trial

invoke = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}).invoke

SPACE = SearchSpace({name: FloatDistribution(-1, 1) for name in ("x", "y", "z")})


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/from.db"


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return f"journal:///{tmp_path}/to.log"


def objective(trial: Trial) -> float:
    x, y = (trial.suggest_float(name, -1, 1) for name in ("x", "y"))
    for step in range(3):
        trial.report(x**2 + y**2 + step, step)
    if trial.should_prune():
        raise optuna.TrialPruned
    return x**2 + y**2


class Bowl(Objective):
    def train(self, params: dict[str, Any], reporter: Reporter) -> float:
        value: float = sum(number**2 for number in params.values())
        for step in reporter.steps(self.max_steps):
            reporter.report(value + 1 / (step + 1), step)
        return value


def told(study: Study) -> list[tuple[Any, ...]]:
    """What the promise is about: parameters, values and reports of all trials."""
    return [
        (trial.number, trial.state, trial.params, trial.values, trial.intermediate_values)
        for trial in study.get_trials()
    ]


def everything(study_name: str, storage: str | BaseStorage) -> str:
    """All that a storage keeps of a study, but for the ids of its trials; NaN equals NaN."""
    study = optuna.load_study(study_name=study_name, storage=open_storage(storage))
    system_attrs = study._storage.get_study_system_attrs(study._study_id)
    fields = [vars(trial) for trial in study.get_trials()]
    user_attrs = {key: value for key, value in study.user_attrs.items() if key != COPY_KEY}
    kept = {
        "directions": study.directions,
        "user_attrs": user_attrs,
        "system_attrs": system_attrs,
        "trials": [{k: v for k, v in trial.items() if k != "_trial_id"} for trial in fields],
    }
    return json.dumps(kept, sort_keys=True, default=repr)


def make_every_kind_of_trial(url: str) -> Study:
    study = make_study("every-kind", storage=url, seed=3)
    run(study, objective, n_trials=2)
    study.set_metric_names(["loss"])
    study.set_user_attr("notes", {"by": ["ä", None, 1.5, True]})

    def odd(trial: Trial) -> float:
        trial.suggest_categorical("kind", ["a", None, 3, 0.5, True])
        trial.suggest_int("n", 1, 100, log=True)
        trial.suggest_float("lr", 1e-5, 1, log=True)
        trial.suggest_float("part", 0, 1, step=0.1)
        trial.set_user_attr("of", "it")
        trial.set_constraint("c", -1.5)
        if trial.number == 2:
            raise optuna.TrialPruned
        if trial.number == 3:
            raise ValueError("lost")
        return math.inf

    run(study, odd, n_trials=5)
    study.add_trial(create_trial(state=TrialState.WAITING))
    study.enqueue_trial({"x": 0.25}, user_attrs={"mine": 1})
    begun = study.ask()
    begun.suggest_float("x", -1, 1)
    begun.report(0.5, 0)
    begun.report(math.nan, 1)
    requeue_trial(study, begun.number)
    return study


def test_everything_is_equal_along_all_storages(
    sqlite: str, redis_database: str, postgres_database: str, journal: str, grpc_url: str
) -> None:
    states = [trial.state.name for trial in make_every_kind_of_trial(sqlite).trials]
    original = everything("every-kind", sqlite)
    assert sorted(set(states)) == ["COMPLETE", "FAIL", "PRUNED", "WAITING"]
    chain = [sqlite, redis_database, postgres_database, journal, grpc_url]
    for source, target in itertools.pairwise(chain):
        assert copy_study("every-kind", storage=source, to_storage=target) == len(states)
        assert everything("every-kind", target) == original


def test_the_copy_remembers_where_it_is_from_without_a_password(
    redis_database: str, sqlite: str
) -> None:
    make_study("s", storage=redis_database)
    copy_study("s", storage=redis_database, to_storage=sqlite)
    told_by_copy = load_study("s", storage=sqlite).user_attrs[COPY_KEY]
    assert told_by_copy["study_name"] == "s"
    assert told_by_copy["done"] is True
    assert redis_database.split("@")[0].rsplit(":", 1)[1] not in str(told_by_copy)
    assert "127.0.0.1" in told_by_copy["storage"]


@pytest.mark.parametrize(
    ("sampler", "pruner"), [("tpe", "hyperband"), ("grid", "median"), ("qmc", "none")]
)
def test_a_copied_study_goes_on_as_the_original(
    sampler: str, pruner: str, sqlite: str, redis_database: str
) -> None:
    settings = {"sampler": sampler, "pruner": pruner, "search_space": SPACE, "seed": 7}
    bowl = Bowl(search_space=SPACE, direction="minimize", max_steps=3)
    whole = make_study("s", **settings, storage=InMemoryStorage())
    run(whole, bowl, n_trials=20)
    run(make_study("s", **settings, storage=sqlite), bowl, n_trials=10)
    copy_study("s", storage=sqlite, to_storage=redis_database)
    copied = load_study("s", storage=redis_database)
    run(copied, bowl, n_trials=20)
    assert len(copied.trials) == 20
    assert told(copied) == told(whole)
    shown = invoke(app, ["status", "s", "-s", redis_database])
    assert shown.exit_code == 0, shown.output
    assert "20 of 20" in shown.output
    assert f"sampler: {sampler}(" in shown.output


def test_a_genetic_samplers_parents_are_found_under_their_new_ids() -> None:
    settings = {"sampler": partial(NSGAIISampler, population_size=4), "seed": 1}
    whole = make_study("s", storage=InMemoryStorage(), **settings)
    run(whole, objective, n_trials=24)
    here, there = InMemoryStorage(), InMemoryStorage()
    run(make_study("s", storage=here, **settings), objective, n_trials=14)
    run(make_study("first", storage=there), objective, n_trials=3)
    copy_study("s", storage=here, to_storage=there)
    assert '"NSGAIISampler:parent:1"' in everything("s", there)
    copied = make_study("s", storage=there, **settings)
    run(copied, objective, n_trials=24)
    assert told(copied) == told(whole)


def at_trials(study: Study) -> dict[str, list[Any]]:
    """Return what the dashboard keeps at a study, and at each of its trials."""
    attrs = study._storage.get_study_system_attrs(study._study_id)
    trials = study.get_trials(deepcopy=False)
    return {
        "note": [get_note(study), *(get_note(optuna.Trial(study, t._trial_id)) for t in trials)],
        "skipped": [is_skipped_trial(t._trial_id, attrs) for t in trials],
        "artifacts": [
            [each["artifact_id"] for each in list_trial_artifacts(attrs, t.system_attrs, t)]
            for t in trials
        ],
        "preferences": get_preferences(attrs),
    }


@pytest.mark.parametrize("place", ["same storage", "sqlite", "journal", "memory"])
def test_what_the_dashboard_keeps_at_trials_stays_with_them(
    place: str, sqlite: str, journal: str, tmp_path: Path
) -> None:
    run(make_study("first", storage=sqlite), objective, n_trials=2)
    study = make_study("noted", storage=sqlite)
    run(study, objective, n_trials=4)
    storage, trials = study._storage, study.trials
    save_note(study, "of the study")
    save_note(optuna.Trial(study, trials[1]._trial_id), "labels were shuffled " * 200)
    save_note(optuna.Trial(study, trials[3]._trial_id), "the last one")
    report_skip(study._study_id, trials[2]._trial_id, storage)
    report_preferences(study._study_id, storage, [(3, 0)])
    for prefix, number in (("dashboard:artifacts", 0), ("dashboard:artifacts", 99)):
        trial_id = trials[number]._trial_id if number < 4 else number
        meta = json.dumps({"artifact_id": f"a{number}"})
        storage.set_study_system_attr(study._study_id, f"{prefix}:{trial_id}:a{number}", meta)
    there = {
        "same storage": sqlite,
        "sqlite": f"sqlite:///{tmp_path}/to.db",
        "journal": journal,
        "memory": InMemoryStorage(),
    }[place]
    if place != "same storage":
        run(make_study("other", storage=there), objective, n_trials=3)
    copy_study("noted", storage=sqlite, to_storage=there, to_study_name="again")
    copied = load_study("again", storage=there)
    assert at_trials(copied) == at_trials(study)
    assert "labels were shuffled" in at_trials(copied)["note"][2]
    assert at_trials(copied)["artifacts"][0] == ["a0"]


def test_the_parents_of_another_storage_are_no_parents_of_the_copy() -> None:
    here, there = InMemoryStorage(), InMemoryStorage()
    study = make_study("s", storage=here)
    run(study, objective, n_trials=2)
    here.set_study_system_attr(study._study_id, "NSGAIISampler:parent:1", [0, 17])
    copy_study("s", storage=here, to_storage=there)
    attrs = there.get_study_system_attrs(load_study("s", storage=there)._study_id)
    assert attrs == {"NSGAIISampler:parent:1": [0]}


@pytest.mark.parametrize("there", ["sqlite", "journal"])
def test_a_copy_of_no_study_makes_no_file(there: str, sqlite: str, tmp_path: Path) -> None:
    make_study("s", storage=sqlite)
    with pytest.raises(StudyNotFound):
        copy_study("other", storage=sqlite, to_storage=f"{there}:///{tmp_path}/to")
    assert not (tmp_path / "to").exists()


def test_a_trial_that_is_to_go_on_takes_its_checkpoint_along(sqlite: str, journal: str) -> None:
    study = make_study("s", storage=sqlite)
    study.ask()
    study.add_trial(create_trial(state=TrialState.WAITING))
    requeue_trial(study, 0)
    kept = Checkpoint(step=4, reports={4: 0.5}, progress={"best_step": 4}, state=b"weights")
    store = default_store(study)
    assert store is not None
    TrialCheckpoints(store, "s", 0).save(kept)
    stale = default_store(make_study("other", storage=journal))
    assert stale is not None
    TrialCheckpoints(stale, "new", 1).save(kept)
    copy_study("s", storage=sqlite, to_storage=journal, to_study_name="new")
    assert TrialCheckpoints(stale, "new", 0).load() == kept
    assert TrialCheckpoints(stale, "new", 1).load() is None
    assert TrialCheckpoints(store, "s", 0).load() == kept


def test_a_study_that_hpolab_did_not_make_is_copied_too(sqlite: str, journal: str) -> None:
    study = optuna.create_study(
        study_name="plain", storage=open_storage(sqlite), directions=["minimize", "maximize"]
    )
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 2.0), n_trials=3)
    copy_study("plain", storage=sqlite, to_storage=journal)
    assert everything("plain", journal) == everything("plain", sqlite)


def test_within_one_storage_a_copy_takes_another_name(sqlite: str) -> None:
    make_study("s", storage=sqlite).enqueue_trial({"x": 0.5})
    copy_study("s", storage=sqlite, to_storage=sqlite, to_study_name="t")
    assert everything("t", sqlite) == everything("s", sqlite)


@pytest.mark.parametrize("n_trials", [0, 3])
def test_a_study_that_is_there_is_left_as_it_is(n_trials: int) -> None:
    here, there = InMemoryStorage(), InMemoryStorage()
    run(make_study("s", storage=here), objective, n_trials=2)
    study = make_study("s", storage=there, seed=9)
    study.optimize(objective, n_trials=n_trials)
    before = everything("s", there)
    with pytest.raises(InvalidArgument, match=r"`to_study_name` must be new .* got 's'"):
        copy_study("s", storage=here, to_storage=there)
    assert everything("s", there) == before


KILLED = """
import os, signal, sys
from hpolab.running import copying
copying._BATCH = 4
write = copying.write_trials
def write_once(*args):
    write(*args)
    os.kill(os.getpid(), signal.SIGKILL)
copying.write_trials = write_once
copying.copy_study("s", storage=sys.argv[1], to_storage=sys.argv[2])
"""


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_killed_copy_is_no_study_and_is_replaced_by_the_next(
    kind: str, sqlite: str, tmp_path: Path, python: Any
) -> None:
    there = f"{kind}:///{tmp_path}/there"
    study = make_study("s", storage=sqlite)
    for number in range(6):
        study.enqueue_trial({"x": number})
    killed = python.run(KILLED, sqlite, there)
    assert killed.returncode == -9
    for opening in (load_study, make_study):
        with pytest.raises(StudyNotFound, match=r"half a copy of 's' from .*: 4 of 6 trials"):
            opening("s", storage=there)
    make_study("other", storage=there)
    shown = invoke(app, ["status", "-s", there])
    assert shown.exit_code == 0
    assert "Left out: Study 's' is half a copy" in shown.output
    assert "other" in shown.output
    assert copy_study("s", storage=sqlite, to_storage=there) == 6
    assert everything("s", there) == everything("s", sqlite)


STOPPED = """
import sys
from hpolab.running import copying
copying.write_trials = lambda *args: (print("writing", flush=True), input())
copying.copy_study("s", storage=sys.argv[1], to_storage=sys.argv[2])
"""


def test_a_half_copy_whose_process_lives_is_not_replaced(
    sqlite: str, journal: str, python: Any
) -> None:
    make_study("s", storage=sqlite).enqueue_trial({"x": 0.5})
    with python.start(STOPPED, sqlite, journal) as other:
        assert other.stdout.readline() == "writing\n"
        with pytest.raises(InvalidArgument, match="`to_study_name` must be new"):
            copy_study("s", storage=sqlite, to_storage=journal)
        other.kill()
    assert copy_study("s", storage=sqlite, to_storage=journal) == 1


def test_a_copy_killed_before_it_was_marked_is_filled() -> None:
    here, there = InMemoryStorage(), InMemoryStorage()
    run(make_study("s", storage=here), objective, n_trials=2)
    optuna.create_study(study_name="s", storage=there)
    assert copy_study("s", storage=here, to_storage=there) == 2


def test_a_running_study_is_refused(sqlite: str, journal: str) -> None:
    study = make_study("s", storage=sqlite)
    first, running = study.ask(), study.ask()
    Reporter(first)
    running.suggest_float("x", -1, 1)
    Reporter(running).report(0.5, 9)
    with pytest.raises(InvalidArgument, match=r"got 's' with 2 running: trial 0, 1\. End"):
        copy_study("s", storage=sqlite, to_storage=journal)
    with pytest.raises(StudyNotFound):
        load_study("s", storage=journal)

    copy_study("s", storage=sqlite, to_storage=journal, requeue_running=True)
    copied = load_study("s", storage=journal)
    assert [trial.state for trial in copied.trials] == [TrialState.WAITING] * 2
    assert copied.trials[1].params == running.params
    assert copied.trials[1].intermediate_values == {9: 0.5}
    assert Lease.of(copied.trials[1]) is None
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING] * 2
    run(copied, objective, n_trials=3)
    assert [trial.state for trial in copied.trials] == [TrialState.COMPLETE] * 3


DYING = """
import os, sys
from hpolab import Reporter, load_study
Reporter(load_study("s", storage=sys.argv[1]).ask()).report(0.5, 0)
os._exit(0)
"""


def test_a_dead_workers_trial_is_requeued_first(sqlite: str, journal: str, python: Any) -> None:
    make_study("s", storage=sqlite)
    python.output_of(DYING, sqlite)
    assert load_study("s", storage=sqlite).trials[0].state == TrialState.RUNNING
    copy_study("s", storage=sqlite, to_storage=journal)
    assert everything("s", journal) == everything("s", sqlite)
    assert load_study("s", storage=journal).trials[0].state == TrialState.WAITING


def test_a_study_that_goes_on_meanwhile_is_no_whole_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = InMemoryStorage(), InMemoryStorage()
    study = make_study("s", storage=here)
    run(study, objective, n_trials=2)
    write = copying_module.write_trials

    def write_slowly(*args: Any) -> None:
        run(study, objective, n_trials=3)
        write(*args)

    monkeypatch.setattr(copying_module, "write_trials", write_slowly)
    with pytest.raises(StorageUnavailable, match="went on while it was copied"):
        copy_study("s", storage=here, to_storage=there)
    with pytest.raises(StudyNotFound, match="half a copy"):
        load_study("s", storage=there)
    monkeypatch.undo()
    assert copy_study("s", storage=here, to_storage=there) == 3


def test_a_study_without_all_its_trials_is_refused() -> None:
    here = InMemoryStorage()
    study = make_study("s", storage=here)
    run(study, objective, n_trials=3)
    del here._studies[0].trials[1]
    with pytest.raises(InvalidArgument, match="some of whose trials were deleted"):
        copy_study("s", storage=here, to_storage=InMemoryStorage())


def test_memory_of_this_process_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="`to_storage` must outlive this process"):
        copy_study("s", storage=InMemoryStorage(), to_storage="memory://")


def test_the_progress_bar_counts_trials(capsys: pytest.CaptureFixture[str]) -> None:
    here = InMemoryStorage()
    run(make_study("s", storage=here), objective, n_trials=2)
    copy_study("s", storage=here, to_storage=InMemoryStorage(), show_progress_bar=True)
    assert "2/2" in capsys.readouterr().err


def test_the_command_copies_and_says_how_to_look(sqlite: str, redis_database: str) -> None:
    make_study("s", storage=sqlite).enqueue_trial({"x": 0.5})
    shown = invoke(app, ["copy", "-s", sqlite, "--to", redis_database, "--name", "t"])
    assert shown.exit_code == 0, shown.output
    assert "Copied study 's': 1 trial." in shown.output
    assert "Next: hpolab status t -s redis://:***@127.0.0.1" in shown.output
    assert everything("t", redis_database) == everything("s", sqlite)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["copy", "z"], "No study 'z'; the storage has 's'."),
        (["copy", "--name", "s"], "`to_study_name` must be new"),
        (["copy", "--to", "memory://"], "must outlive this process"),
    ],
)
def test_the_commands_errors_are_one_message(
    arguments: list[str], message: str, sqlite: str
) -> None:
    make_study("s", storage=sqlite)
    to = [] if "--to" in arguments else ["--to", sqlite]
    shown = invoke(app, [*arguments, "-s", sqlite, *to])
    assert shown.exit_code == 2
    assert message in shown.output
    assert "Traceback" not in shown.output


def test_help_teaches_by_an_example() -> None:
    shown = invoke(app, ["copy", "--help"])
    assert shown.exit_code == 0
    assert "hpolab copy demo -s hpolab-demo.db --to redis://" in shown.output
