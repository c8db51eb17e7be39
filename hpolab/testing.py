"""Promises that every objective keeps, as tests for pytest: hpolab's objectives and your own.

Subclass `ObjectiveContract` in a test file; pytest finds the class by its name::

    from hpolab.testing import ObjectiveContract

    class TestMyObjective(ObjectiveContract):
        def objective(self):
            return MyObjective(search_space=..., direction="minimize", max_steps=3)
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from hpolab.errors import Diverged, InvalidArgument, RecipeMismatch, needs
from hpolab.objectives.base import Objective
from hpolab.objectives.by_row import agrees, as_row_scores
from hpolab.running.run import run
from hpolab.studies.study import make_study
from hpolab.trial.checkpoint import CheckpointFolder
from hpolab.trial.reporter import REASON_KEY, Reporter, training_seed
from hpolab.trial.soft_stop import StopsBehindReport, ask_to_stop, withdraw

with needs("`hpolab.testing`", "pytest", "test"):
    import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

__all__ = ["ObjectiveContract"]


class ObjectiveContract:
    """What any objective promises; each test is named by its promise.

    Attributes:
        n_trials: Trials of the study that most tests look at.
        value_is_of_data: Whether a trial's value is the metric of its model on `data`. (The mean
            over folds, say, is not: no one model has it.)
    """

    n_trials: int = 2
    value_is_of_data: bool = False

    def objective(self) -> Objective:
        """Return the objective, made anew: a small one, whose trial takes a second at most."""
        raise NotImplementedError("`objective` must return the objective to test.")

    def others(self) -> Sequence[Objective]:
        """Return objectives whose values cannot be compared with its own: of other facts."""
        return ()

    def data(self) -> Any:
        """Return data for `Objective.evaluate`; None tests no evaluation."""
        return None

    @pytest.fixture
    def finished(self) -> Study:
        """A study that has run to its end, the same for all tests of the class."""
        kind: Any = type(self)
        if "_finished" not in vars(kind):
            kind._finished = _run(self.objective(), self.n_trials)
        study: Study = kind._finished
        return study

    def test_default_of_the_space_can_be_trained(self) -> None:
        self.objective().check()

    def test_study_finishes_with_finite_values(self, finished: Study) -> None:
        assert [trial.state for trial in finished.trials] == [TrialState.COMPLETE] * self.n_trials
        assert all(math.isfinite(_value_of(trial)) for trial in finished.trials)

    def test_same_seed_gives_the_same_trials(self, finished: Study) -> None:
        assert _told(_run(self.objective(), self.n_trials)) == _told(finished)

    def test_global_random_state_neither_counts_nor_changes(self, finished: Study) -> None:
        before = _seed_everything(7)
        study = _run(self.objective(), 1)
        assert _told(study) == _told(finished)[:1]
        assert _random_state() == before

    def test_pickled_objective_is_the_same(self, finished: Study) -> None:
        # As worker processes get it.
        again = cloudpickle.loads(cloudpickle.dumps(self.objective()))
        assert _told(_run(again, 1)) == _told(finished)[:1]

    def test_trained_objective_still_pickles(self) -> None:
        objective = self.objective()
        before = _told(_run(objective, 1))
        assert _told(_run(cloudpickle.loads(cloudpickle.dumps(objective)), 1)) == before

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["first", "middle", "last"])
    def test_trial_that_is_killed_resumes_and_ends_as_the_uninterrupted_one(
        self, finished: Study, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = finished.trials[0]
        n_reports = len(whole.intermediate_values)
        if not n_reports:
            pytest.skip("the objective reports nothing, so it starts over")
        store = CheckpointFolder(tmp_path)
        settings: dict[str, Any] = {"checkpoints": store, "checkpoint_seconds": 0}
        trial = _ask(self.objective(), whole)
        killed, resumed = (self.objective().with_settings(**settings) for _ in range(2))
        with monkeypatch.context() as patch:
            _at_report(patch, 1 + round(share * (n_reports - 1)), _kill)
            with pytest.raises(_Killed):
                killed(trial)
        value = resumed(trial)
        trial.study.tell(trial, value)
        assert _told(trial.study) == _told(finished)[:1]
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # no longer needed

    def test_trial_whose_worker_is_asked_to_stop_resumes_and_ends_as_the_uninterrupted_one(
        self, finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        n_reports = len(finished.trials[0].intermediate_values)
        if not n_reports:
            pytest.skip("the objective reports nothing, so it is interrupted")
        objective = self.objective().with_settings(checkpoints=CheckpointFolder(tmp_path))
        stopped = _ask_to_stop_at_report(monkeypatch, 1 + n_reports // 2)
        assert _told(_run(objective, self.n_trials)) == _told(finished)
        assert len(stopped) == 1
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # no longer needed

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_trial_that_diverges_is_pruned_and_marked(
        self, finished: Study, value: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objective = self.objective()
        if finished.trials[0].intermediate_values:
            _at_report(monkeypatch, 1, lambda: value)
        else:
            monkeypatch.setattr(type(objective), "train", lambda *_: value)
        study = _run(objective, 1)
        (trial,) = study.trials
        assert trial.state == TrialState.PRUNED
        assert trial.user_attrs[REASON_KEY].startswith(f"diverged: {value}")
        assert max(trial.constraints.values()) > 0  # so that samplers keep away from there

    def test_training_outside_trials_that_diverges_raises(
        self, finished: Study, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objective, _ = self._fitted(finished)
        report, reported = Reporter.report, []

        def diverge(reporter: Reporter, value: float, step: int, **more: Any) -> None:
            reported.append(step)
            report(reporter, math.nan, step, **more)

        monkeypatch.setattr(Reporter, "report", diverge)
        try:
            objective.fit(finished.trials[0].params, 0)
        except Diverged:
            return
        assert not reported, "`fit` returned the model of a training that has diverged"

    def test_pruner_ends_a_trial_at_its_first_report(self, finished: Study) -> None:
        if not finished.trials[0].intermediate_values:
            pytest.skip("the objective reports nothing that could be pruned")
        (trial,) = _run(self.objective(), 1, pruner=_PruneAll()).trials
        assert trial.state == TrialState.PRUNED
        assert len(trial.intermediate_values) == 1

    def test_deadline_ends_a_trial_with_what_it_has(self, finished: Study) -> None:
        trial = _ask(self.objective(), finished.trials[0])
        self._check_ended(trial, self.objective()(trial, deadline=time.monotonic()), finished)

    def test_time_limit_ends_a_trial_with_what_it_has(self, finished: Study) -> None:
        trial = _ask(self.objective(), finished.trials[0])
        objective = self.objective().with_settings(timeout_seconds=1e-9)
        self._check_ended(trial, objective(trial), finished)

    def test_study_of_the_other_direction_is_refused_before_a_trial(self) -> None:
        objective = self.objective()
        other = "minimize" if objective.direction == "maximize" else "maximize"
        study = make_study("other", storage="memory://", direction=other)
        metric = f"metric '{objective.metric}'"
        with pytest.raises(InvalidArgument, match=f"'{objective.direction}', as .* asks") as raised:
            run(study, objective, n_trials=1, show_progress_bar=False)
        assert metric in str(raised.value)
        assert study.trials == []
        with pytest.raises(InvalidArgument, match="direction"):
            objective(study.ask())

    def test_facts_are_plain_values(self) -> None:
        facts = dict(self.objective().facts)
        assert json.loads(json.dumps(facts)) == facts
        assert dict(self.objective().facts) == facts

    def test_values_of_other_facts_are_not_mixed(self) -> None:
        others = self.others()
        if not others:
            pytest.skip("`others` names no objective of other facts")
        for other in others:
            study = _run(self.objective(), 1)
            with pytest.raises(RecipeMismatch):
                run(study, other, n_trials=2, show_progress_bar=False)
            assert len(study.trials) == 1

    def test_params_of_a_trial_are_the_trainer_s_own(self, finished: Study) -> None:
        objective = self.objective()
        for trial in finished.trials:
            params = objective.params_of(trial)
            assert params.items() >= objective.search_space.from_trial(trial.params).items()
            json.dumps(params, default=repr)

    def test_metrics_are_finite_numbers_with_the_optimized_one(self, finished: Study) -> None:
        objective, model = self._fitted(finished)
        metrics = self._evaluated(objective, model)
        assert objective.metric_in(metrics) in metrics
        assert all(isinstance(value, float) for value in metrics.values())
        assert math.isfinite(metrics[objective.metric_in(metrics)])

    def test_evaluation_repeats_and_leaves_the_data_as_it_was(self, finished: Study) -> None:
        objective, model = self._fitted(finished)
        data = self.data()
        if data is None:
            pytest.skip("`data` gives nothing to evaluate on")
        before = cloudpickle.dumps(data)
        metrics = objective.evaluate(model, data)
        assert cloudpickle.dumps(data) == before
        assert objective.evaluate(model, data) == metrics

    def test_row_scores_have_the_metric_as_their_mean_in_any_order_of_rows(
        self, finished: Study
    ) -> None:
        objective, model = self._fitted(finished)
        data = self.data()
        if data is None or objective.row_scores(model, data) is None:
            pytest.skip("the objective has no scores by row")
        for each in (data, _reversed(data)):
            metrics = objective.evaluate(model, each)
            value = metrics[objective.metric_in(metrics)]
            scores = as_row_scores(objective.row_scores(model, each))
            assert scores is not None, "`row_scores` must return numbers of shape (n,)"
            assert agrees(scores, value), (
                f"`row_scores` must have the metric as their mean, {value}, got {scores.mean()}"
            )

    def test_best_model_is_that_of_the_best_trial(self, finished: Study) -> None:
        objective, model = self._fitted(finished)
        best, metrics = finished.best_trial, self._evaluated(objective, model)
        if self.value_is_of_data:
            assert metrics[objective.metric_in(metrics)] == best.value
        by_number = objective.fit_trial(finished, best.number)
        assert self._evaluated(objective, by_number) == metrics

    def test_params_of_trial_and_trainer_train_the_same_model(self, finished: Study) -> None:
        objective, _ = self._fitted(finished)
        trial = finished.trials[-1]
        seed = training_seed(finished, trial.number)
        of_trainer = objective.search_space.from_trial(trial.params)
        expected = self._evaluated(objective, objective.fit(of_trainer, seed))
        for params in (trial.params, objective.params_of(trial)):
            assert self._evaluated(objective, objective.fit(params, seed)) == expected

    def test_another_seed_trains_the_configuration_anew(self, finished: Study) -> None:
        objective, _ = self._fitted(finished)
        params = objective.search_space.from_trial(finished.best_trial.params)
        anew = objective.fit_best(finished, seed=11)
        assert self._evaluated(objective, anew) == self._evaluated(
            objective, objective.fit(params, 11)
        )

    def _fitted(self, study: Study) -> tuple[Objective, Any]:
        """Return the objective and the best trial's model."""
        objective = self.objective()
        if type(objective).fit is Objective.fit:
            pytest.skip("the objective has no `fit`")
        try:
            return objective, objective.fit_best(study)
        except NotImplementedError:
            pytest.skip("the objective's function returns no model")

    def _evaluated(self, objective: Objective, model: Any) -> dict[str, float]:
        data = self.data()
        if data is None:
            pytest.skip("`data` gives nothing to evaluate on")
        return objective.evaluate(model, data)

    def _check_ended(self, trial: Trial, value: float, finished: Study) -> None:
        n_reports = len(finished.trials[0].intermediate_values)
        assert math.isfinite(value)
        assert len(_reports(trial)) == min(1, n_reports)


def _reversed(data: Any) -> Any:
    """Return arrays in nested tuples, lists and dicts with their rows reversed; else the data."""
    if isinstance(data, dict):
        return {name: _reversed(part) for name, part in data.items()}
    if type(data) in (tuple, list):
        return type(data)(map(_reversed, data))
    if not getattr(data, "shape", ()) or not hasattr(data, "__getitem__"):
        return data
    return getattr(data, "iloc", data)[np.arange(data.shape[0])[::-1].copy()]


class _Killed(BaseException):
    """The end of a process, which no objective may catch."""


class _PruneAll(BasePruner):
    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return True


def _run(objective: Objective, n_trials: int, *, pruner: str | BasePruner = "none") -> Study:
    study = _new_study(objective, pruner)
    run(study, objective, n_trials=n_trials, show_progress_bar=False)
    return study


def _new_study(objective: Objective, pruner: str | BasePruner = "none") -> Study:
    return make_study(
        "contract",
        storage="memory://",
        objective=objective,
        sampler="random",
        pruner=pruner,
        seed=3,
    )


def _ask(objective: Objective, like: FrozenTrial) -> Trial:
    """Return a running trial 0 with the parameters of a study's trial 0."""
    study = _new_study(objective)
    study.enqueue_trial(like.params)
    return study.ask()


def _at_report(
    monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], float | None]
) -> None:
    """Let the nth report of a trial be another value, or be followed by what ``act`` raises."""
    report, left = Reporter.report, [count]

    def reported(reporter: Reporter, value: float, step: int, **more: Any) -> None:
        if reporter.trial is None:
            return report(reporter, value, step, **more)
        left[0] -= 1
        if left[0] == 0 and act is not _kill:
            value = act() or value
        report(reporter, value, step, **more)
        if left[0] == 0 and act is _kill:
            act()
        return None

    monkeypatch.setattr(Reporter, "report", reported)


def _kill() -> None:
    raise _Killed


def _ask_to_stop_at_report(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """Ask the worker to stop before the nth report of a trial; return the steps where one does."""
    report, left = Reporter.report, [count]
    stopped: list[int] = []

    def reported(reporter: Reporter, value: float, step: int, **more: Any) -> None:
        if reporter.trial is not None:
            left[0] -= 1
            if left[0] == 0:
                ask_to_stop()
        try:
            report(reporter, value, step, **more)
        except StopsBehindReport:
            stopped.append(step)
            raise
        finally:
            withdraw()  # the worker goes on with the trial itself

    monkeypatch.setattr(Reporter, "report", reported)
    return stopped


def _told(study: Study) -> list[Any]:
    return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in study.trials]


def _reports(trial: Trial) -> dict[int, float]:
    return trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values


def _value_of(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else trial.value


def _seed_everything(seed: int) -> list[Any]:
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
    return _random_state()


def _random_state() -> list[Any]:
    torch = sys.modules.get("torch")
    state = [random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()]
    return [*state, None if torch is None else torch.get_rng_state().tolist()]
