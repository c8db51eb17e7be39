"""MLflow: a study is a run, its trials are nested below it."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, needs
from hpolab.logs import get_logger
from hpolab.storage.redaction import reason_of
from hpolab.trackers.names import as_tags, best_name, check_name, curve_name, trial_name
from hpolab.trial.tracker import Tracker, TrialRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hpolab.trial.tracker import StudyEnd, TrackedStudy, TrackedTrial, TrialEnd

__all__ = ["MLflowTracker"]

_logger = get_logger(__name__)

# How a trial's end reads in MLflow, which has no word for a trial that was stopped on purpose.
_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "requeued": "SCHEDULED"}

_STUDY_STATUS = {"finished": "FINISHED", "running": "RUNNING", "interrupted": "SCHEDULED"}

# What one call of MLflow's takes at most.
_MOST_PARAMS = 100
_MOST_METRICS = 1000
_MOST_CHARACTERS = 5000

# What MLflow takes in the name of a metric or a parameter.
_NOT_IN_NAMES = re.compile(r"[^\w./ -]")


@dataclass(frozen=True, kw_only=True)
class MLflowTracker(Tracker):
    """Tracks studies in MLflow: the study is a run, and each trial a nested run below it.

    A trial's run holds its parameters in the trainer's own names, its value under the metric's
    name, its reports as a curve (``<metric>_by_step``), and as tags how it ended and why. The
    study's run holds the best value so far, by trial number. A complete trial is FINISHED, a pruned
    one KILLED, a failed one FAILED, one that was interrupted and will resume SCHEDULED.

    A resumed trial goes on in its run. The steps behind its last checkpoint are trained again:
    those that come out the same are in MLflow already. MLflow cannot replace a value: if a step
    comes out otherwise, it has both there, the later one last, and the log says so.

    Args:
        experiment: The MLflow experiment; made where there is none. None takes that of
            MLFLOW_EXPERIMENT_NAME, or else one with the study's name.
        tracking_uri: Where MLflow keeps its runs: "http://…", "sqlite:///mlflow.db". None takes
            what MLFLOW_TRACKING_URI or ``mlflow.set_tracking_uri`` say, or else MLflow's default.
        tags: Tags of all runs.

    Raises:
        InvalidType: If an argument is of the wrong type.

    Example:
        >>> MLflowTracker(experiment="mnist", tags={"team": "vision"}).experiment
        'mnist'
    """

    experiment: str | None = None
    tracking_uri: str | None = field(default=None, repr=False)  # it may hold a password
    tags: Mapping[str, str] | None = None
    _uri: str | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name("experiment", self.experiment)
        check_name("tracking_uri", self.tracking_uri)
        as_tags(self.tags)
        # Now, as the environment of a worker on another machine may not have it.
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        object.__setattr__(self, "_uri", uri)

    @property
    def key(self) -> str:
        """See `Tracker`: the experiment and the address, as far as they are given."""
        key = "mlflow" if self.experiment is None else f"mlflow:{self.experiment}"
        if self.tracking_uri is None:
            return key
        address = blake2b(self.tracking_uri.encode(), digest_size=6).hexdigest()
        return f"{key}@{address}"

    def check(self) -> None:
        """See `Tracker`: MLflow must be there, and know the kind of address."""
        with needs("`MLflowTracker`", "MLflow", "mlflow"):
            import mlflow  # noqa: F401
        is_server = (self._uri or "").startswith(("http", "postgresql", "mysql", "mssql"))
        if is_server:
            return  # it may be away for a moment
        try:
            _client(self._uri)
        except Exception as error:
            reason = reason_of(error, self._uri or "")
            raise InvalidArgument(
                "`tracking_uri` must be an address that MLflow can open, such as "
                f"'sqlite:///mlflow.db' or 'http://localhost:5000': {reason}"
            ) from error

    def start_study(self, study: TrackedStudy) -> str:
        """See `Tracker`."""
        client = _client(self._uri)
        if study.run_id is not None:
            if self._is_there(study.run_id):
                client.update_run(study.run_id, status="RUNNING")
                return study.run_id
            _logger.warning(
                f"The run of study {study.name!r} is gone from MLflow; it gets a new one."
            )
        run = client.create_run(
            self._experiment_id(study.name),
            run_name=study.name,
            tags={
                **as_tags(self.tags),
                "hpolab.kind": "study",
                "hpolab.study": study.name,
                "hpolab.direction": ", ".join(study.directions),
                "hpolab.metric": ", ".join(study.metrics),
                **({} if study.seed is None else {"hpolab.seed": str(study.seed)}),
            },
        )
        return str(run.info.run_id)

    def start_trial(self, trial: TrackedTrial) -> TrialRun:
        """See `Tracker`."""
        client = _client(self._uri)
        assert trial.study.run_id is not None
        parent = trial.study.run_id
        experiment_id = _experiment_of(self._uri, parent)
        found: str | None = trial.run_id
        if found is not None and not self._is_there(found):
            found = None
        elif found is None and trial.is_resumed:
            # Its worker was killed between making the run and storing its id.
            is_of_study = f"tags.`mlflow.parentRunId` = '{parent}'"
            is_this = f"tags.`hpolab.trial` = '{trial.number}'"
            runs = client.search_runs([experiment_id], f"{is_of_study} and {is_this}")
            found = runs[0].info.run_id if runs else None
        if found is not None:
            client.update_run(found, status="RUNNING")
            client.set_tag(found, "mlflow.parentRunId", parent)
            return _MLflowRun(self._uri, found, trial)
        run = client.create_run(
            experiment_id,
            run_name=trial_name(trial.number),
            tags={
                **as_tags(self.tags),
                "mlflow.parentRunId": parent,
                "hpolab.kind": "trial",
                "hpolab.study": trial.study.name,
                "hpolab.trial": str(trial.number),
                "hpolab.seed": str(trial.seed),
                "hpolab.state": "running",
            },
        )
        return _MLflowRun(self._uri, str(run.info.run_id), trial)

    def end_study(self, study: TrackedStudy, end: StudyEnd) -> None:
        """See `Tracker`."""
        from mlflow.entities import RunTag

        client = _client(self._uri)
        assert study.run_id is not None
        tags = {f"hpolab.n_{state}": str(n) for state, n in end.counts.items()}
        if end.best is not None:
            value, number = end.best
            tags |= {"hpolab.best_trial": str(number), f"hpolab.{best_name('value')}": repr(value)}
            tags |= {f"hpolab.best.{name}": _text(each) for name, each in end.best_params.items()}
        tags["hpolab.state"] = end.state
        client.log_batch(
            study.run_id, tags=[RunTag(_name(key), text) for key, text in tags.items()]
        )
        if end.state == "finished":
            client.set_terminated(study.run_id, "FINISHED")
        else:
            client.update_run(study.run_id, status=_STUDY_STATUS[end.state])

    def _is_there(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            run = _client(self._uri).get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return bool(run.info.lifecycle_stage == "active")

    def _experiment_id(self, study_name: str) -> str:
        """Return the experiment's id, also where another worker makes it in this instant."""
        from mlflow.exceptions import MlflowException

        client = _client(self._uri)
        name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or study_name
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)
        return str(found.experiment_id)


class _MLflowRun(TrialRun):
    """A trial's run in MLflow.

    Args:
        uri: MLflow's address.
        run_id: The run's id there.
        trial: The trial.
    """

    def __init__(self, uri: str | None, run_id: str, trial: TrackedTrial) -> None:
        self.id = run_id
        self._client = _client(uri)
        self._trial = trial
        self._curve = _name(curve_name(trial.study.metric))
        self._params: set[str] | None = None if trial.is_resumed else set()
        # Step -> value, for what an earlier life has logged.
        self._known: dict[int, float] = {}
        self._differs = False

    def set_params(self, params: Mapping[str, Any], *, is_complete: bool) -> None:
        """See `TrialRun`: MLflow refuses another value for a parameter that it has."""
        from mlflow.entities import Param

        if self._params is None:
            self._params = set(self._client.get_run(self.id).data.params)
        new = {_name(name): _text(value) for name, value in params.items()}
        pairs = [Param(name, text) for name, text in new.items() if name not in self._params]
        self._params |= new.keys()
        for some in _parts(pairs, _MOST_PARAMS):
            self._client.log_batch(self.id, params=some)

    def resume(self, step: int, reports: Mapping[int, float]) -> None:
        """See `TrialRun`."""
        if self._trial.is_resumed:
            history = self._client.get_metric_history(self.id, self._curve)
            history = sorted(history, key=lambda metric: metric.timestamp)
            self._known = {metric.step: metric.value for metric in history}
        missing = {each: value for each, value in reports.items() if each not in self._known}
        self._log(missing)

    def step(self, step: int, value: float) -> None:
        """See `TrialRun`."""
        known = self._known.get(step)
        if known == value:
            return
        if known is not None and not self._differs:
            self._differs = True
            _logger.warning(
                f"Trial {self._trial.number} of study {self._trial.study.name!r} was resumed, and "
                f"step {step} came out as {value:.6g} where it was {known:.6g} before. MLflow "
                "keeps both values of such a step."
            )
        self._log({step: value})

    def _log(self, values: Mapping[int, float]) -> None:
        from mlflow.entities import Metric

        now = _now()
        metrics = [Metric(self._curve, value, now, step) for step, value in values.items()]
        for some in _parts(metrics, _MOST_METRICS):
            self._client.log_batch(self.id, metrics=some)

    def end(self, end: TrialEnd) -> None:
        """See `TrialRun`."""
        from mlflow.entities import Metric, RunTag

        if end.state == "taken":
            return
        tags: dict[str, str] = {"hpolab.state": end.state}
        if end.reason:
            tags["hpolab.reason"] = end.reason[:_MOST_CHARACTERS]
        now = _now()
        numbers = {**end.metrics, **end.values}
        self._client.log_batch(
            self.id,
            metrics=[Metric(_name(name), value, now, 0) for name, value in numbers.items()],
            tags=[RunTag(key, text) for key, text in tags.items()],
        )
        parent = self._trial.study.run_id
        if end.best is not None and parent is not None:
            name = _name(best_name(self._trial.study.metric))
            self._client.log_metric(parent, name, end.best[0], step=self._trial.number)
        status = _STATUS[end.state]
        if end.state == "requeued":
            self._client.update_run(self.id, status=status)
        else:
            self._client.set_terminated(self.id, status)


@lru_cache(maxsize=8)
def _client(uri: str | None) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@lru_cache(maxsize=64)
def _experiment_of(uri: str | None, run_id: str) -> str:
    return str(_client(uri).get_run(run_id).info.experiment_id)


def _parts(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _name(name: str) -> str:
    """Return a name as MLflow takes it."""
    return _NOT_IN_NAMES.sub("_", name)[:250]


def _text(value: Any) -> str:
    return str(value)[:_MOST_CHARACTERS]


def _now() -> int:
    return int(time.time() * 1000)
