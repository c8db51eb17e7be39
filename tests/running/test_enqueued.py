"""Enqueued trials try what they say, under a trial's names or the trainer's, or are refused."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
import torch
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    InvalidType,
    SearchSpace,
    TorchObjective,
    drop_enqueued,
    make_study,
    optimizer_space,
    run,
)

SPACE = SearchSpace.choice(
    "model", {"line": {"slope": (0.0, 2.0)}, "curve": {"bend": (0.1, 0.9), "slope": (0.0, 2.0)}}
) | SearchSpace({"beta": (0.5, 0.999), "width": (1, 8), "depth": 2}, one_minus=["beta"])


def objective(search_space: SearchSpace = SPACE, seen: list[Any] | None = None) -> Any:
    def train(params, reporter):
        if seen is not None:
            seen.append(dict(params))
        return params["width"]

    return FunctionObjective(train, search_space=search_space, direction="minimize", max_steps=1)


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "curve", "bend": 0.5, "slope": 1.5, "beta": 0.9, "width": 3, "depth": 2},
        {"model": "curve", "curve.bend": 0.5, "curve.slope": 1.5, "one_minus_beta": 0.1},
        {"model": "curve", "curve.bend": 0.5, "slope": 1.5, "beta": 0.9},
        {"beta": 0.9},
        {"width": 3.0},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["run", "optimize", "later"])
def test_configuration_is_tried_as_asked(asked, way, tmp_path):
    seen: list[Any] = []
    made = objective(seen=seen)
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db", objective=made, seed=0)
    if way == "later":  # by a callback, when `run` has looked at what waits

        def enqueue(study, trial):
            if trial.number == 0:
                study.enqueue_trial(asked)

        run(study, made, n_trials=2, callbacks=[enqueue], show_progress_bar=False)
    else:
        study.enqueue_trial(asked)
        if way == "run":
            run(study, made, n_trials=1, show_progress_bar=False)
        else:
            study.optimize(made, n_trials=1)
    params = SPACE.to_enqueue(asked)
    assert study.trials[-1].state == TrialState.COMPLETE
    assert study.trials[-1].params.items() >= params.items()
    if "beta" in asked or "one_minus_beta" in asked:
        assert seen[-1]["beta"] == 0.9


WRONG = [
    ({"widht": 3}, "Did you mean 'width'"),
    ({"learning_rate": 3}, "which it has not"),
    ({"width": 9}, "'width' must be in 1 .. 8, got 9"),
    ({"width": 2.5}, "'width' must be in 1 .. 8"),
    ({"width": "wide"}, "'width' must be in 1 .. 8"),
    ({"beta": 0.4}, "'beta' must be in"),
    ({"one_minus_beta": 0.9}, "'one_minus_beta' must be in"),
    ({"beta": 0.9, "one_minus_beta": 0.1}, "once"),
    ({"model": "cruve"}, "Did you mean 'curve'"),
    ({"bend": 0.5}, "give the choice with it"),
    ({"curve.bend": 0.5}, "give the choice with it"),
    ({"model": "line", "bend": 0.5}, "was not chosen"),
    ({"model": "line", "curve.slope": 0.5}, "was not chosen"),
    ({"depth": 3}, "'depth' is fixed at 2"),
]


@pytest.mark.parametrize(("asked", "said"), WRONG, ids=str)
def test_what_cannot_be_tried_is_refused_before_a_trial(asked, said):
    study = make_study("s", storage="memory://", objective=objective())
    study.enqueue_trial({"width": 3})
    study.enqueue_trial(asked)
    with pytest.raises(InvalidArgument, match=r"Trial 1 .*no trial was spent") as raised:
        run(study, objective(), n_trials=3, show_progress_bar=False)
    assert said in str(raised.value)
    assert not any(trial.state.is_finished() for trial in study.trials)
    drop_enqueued(study, 1)
    run(study, objective(), n_trials=3, show_progress_bar=False)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert study.trials[0].params["width"] == 3


@pytest.mark.parametrize(("asked", "said"), WRONG[:3], ids=str)
def test_what_cannot_be_tried_fails_alone_when_it_comes_later(asked, said):
    def enqueue(study, trial):
        if trial.number == 0:
            study.enqueue_trial(asked)

    study = make_study("s", storage="memory://", objective=objective())
    run(study, objective(), n_trials=3, callbacks=[enqueue], show_progress_bar=False)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert said in study.trials[1].user_attrs["hpolab:error"]


def test_study_optimize_refuses_it_too():
    study = make_study("s", storage="memory://", objective=objective())
    study.enqueue_trial({"widht": 3})
    with pytest.raises(InvalidArgument, match="width"):
        study.optimize(objective(), n_trials=1)


def test_manual_study_is_refused_while_a_parameter_is_missing():
    space = SearchSpace({"x": (0.0, 1.0), "width": (1, 4)})
    made = objective(space)
    study = make_study("s", storage="memory://", objective=made, sampler="manual")
    study.enqueue_trial({"x": 0.5, "width": 2})
    study.enqueue_trial({"x": 0.5})
    with pytest.raises(InvalidArgument, match=r"Trial 1 .*'width'"):
        run(study, made, show_progress_bar=False)
    assert not any(trial.state.is_finished() for trial in study.trials)


def test_requeued_trial_keeps_what_it_has_drawn_in_a_space_that_was_narrowed():
    storage = InMemoryStorage()
    study = make_study("s", storage=storage, objective=objective(), seed=0)
    study.enqueue_trial({"width": 8})

    def interrupted(params, reporter):
        raise KeyboardInterrupt

    broken = objective()
    broken._function = interrupted
    with pytest.raises(KeyboardInterrupt):
        run(study, broken, n_trials=1, show_progress_bar=False)
    assert study.trials[0].params["width"] == 8
    study.set_user_attr("hpolab:known_facts", {})
    run(study, objective(SPACE.override(width=(1, 4))), n_trials=1, show_progress_bar=False)
    assert study.trials[0].params["width"] == 8


def test_fused_trials_try_what_they_were_enqueued_with():
    rows = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    made = TorchObjective(
        lambda params: torch.nn.Linear(3, 1),
        train=(rows[:8], rows[:8, :1]),
        valid=(rows[8:16], rows[8:16, :1]),
        score=(rows[16:], rows[16:, :1]),
        search_space=optimizer_space("adam"),
        loss="mse",
        metric="mse",
        max_epochs=1,
    )
    study = make_study("s", storage="memory://", objective=made)
    for beta in (0.85, 0.9):
        study.enqueue_trial({"lr": 0.005, "beta1": beta})
    run(study, made, n_trials=2, fuse=2, show_progress_bar=False)
    assert [t.params["one_minus_beta1"] for t in study.trials] == [0.15, 0.1]


def test_what_does_not_wait_cannot_be_dropped():
    study = make_study("s", storage="memory://", objective=objective())
    run(study, objective(), n_trials=1, show_progress_bar=False)
    with pytest.raises(InvalidArgument, match=r"`trial` must be one that waits .* got 0"):
        drop_enqueued(study, 0)
    with pytest.raises(InvalidType, match="`trial` must be a trial or its number"):
        drop_enqueued(study, "0")
    with pytest.raises(InvalidType, match="`study`"):
        drop_enqueued("s", 0)
    assert isinstance(study, optuna.Study)
