"""Weights & Biases: a study is a group of runs, one of the study itself and one of each trial."""

from __future__ import annotations

import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, needs, one_of
from hpolab.trackers.names import as_tags, best_name, check_name, curve_name, trial_name
from hpolab.trial.tracker import Tracker, TrialRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hpolab.trial.tracker import StudyEnd, TrackedStudy, TrackedTrial, TrialEnd

__all__ = ["WandbTracker"]

# Settings that not every version of W&B has; those that it lacks are left out.
_SETTINGS: dict[str, Any] = {
    "silent": True,
    # Of several runs in one process, each would have what all of them print.
    "console": "off",
    "save_code": False,
    # Looked up and stored once a run: a second of a trial that may take one.
    "disable_git": True,
    "x_disable_stats": True,
    # W&B's service ends with a process that is killed, and what it has not written by then is lost.
    "x_transaction_log_flush_interval": 1.0,
}


@dataclass(frozen=True)
class WandbTracker(Tracker):
    """Tracks studies in Weights & Biases: each trial is a run, in a group that is the study.

    A trial's run has its parameters in the trainer's own names as its config, its reports as a
    curve (``<metric>_by_step``), and in its summary the value under the metric's name, how it ended
    and why. A run of the job type "study" sums the study up each time `run` ends.

    A resumed trial goes on in its run; steps that W&B has already are not logged again. W&B takes
    steps in ascending order alone. ``mode="offline"`` writes to ``./wandb``, which ``wandb sync``
    uploads; a resumed trial then has a folder for each of its lives, which ``wandb sync`` joins. If
    it was resumed on a machine that does not see the first folder, the steps behind its last
    checkpoint are in both.

    Args:
        project: The W&B project.
        entity: The user or team that it belongs to; None for your default.
        mode: "online", "offline", or None for what WANDB_MODE says, or else online.
        folder: Where W&B writes its folder ``wandb``; None for WANDB_DIR, or else the working
            folder.
        tags: Tags of all runs.

    Raises:
        InvalidType: If an argument is of the wrong type.
        InvalidArgument: If ``mode`` is not known.

    Example:
        >>> WandbTracker("mnist", mode="offline").project
        'mnist'
    """

    project: str
    entity: str | None = None
    mode: str | None = None
    folder: str | None = None
    tags: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name in ("project", "entity", "folder"):
            check_name(name, getattr(self, name))
        if not self.project:
            raise InvalidArgument(f"`project` must be a name, got {self.project!r}.")
        if self.mode is not None:
            one_of("mode", self.mode, ("online", "offline"))
        as_tags(self.tags)

    @property
    def key(self) -> str:
        """See `Tracker`: the project, and whose it is."""
        return f"wandb:{'' if self.entity is None else f'{self.entity}/'}{self.project}"

    def check(self) -> None:
        """See `Tracker`: W&B must be there, and know who you are where it is online."""
        with needs("`WandbTracker`", "Weights & Biases", "wandb"):
            import wandb
        if self._is_offline(wandb):
            return
        if not wandb.login(prompt=False, verify=False):
            raise InvalidArgument(
                "`mode` must be 'offline' where nobody has logged in to W&B: run `wandb login`, "
                "set WANDB_API_KEY, or give WandbTracker(…, mode='offline')."
            )

    def _is_offline(self, wandb: Any) -> bool:
        return (self.mode or wandb.setup().settings.mode) != "online"

    def start_study(self, study: TrackedStudy) -> str:
        """See `Tracker`: the id alone, as W&B takes one run from one process at a time."""
        return study.run_id or secrets.token_hex(4)

    def _study_run(self, study: TrackedStudy, run_id: str) -> Any:
        return self._open(
            run_id,
            name=study.name,
            group=_group(study.name, run_id),
            job_type="study",
            config={
                "hpolab/study": study.name,
                "hpolab/direction": ", ".join(study.directions),
                "hpolab/seed": study.seed,
            },
        )

    def start_trial(self, trial: TrackedTrial) -> TrialRun:
        """See `Tracker`."""
        study = trial.study
        assert study.run_id is not None
        run_id = trial.run_id or f"{study.run_id}-{trial.number}"
        past = _steps_before(self._folder(), run_id, trial) if trial.is_resumed else set()
        run = self._open(
            run_id,
            name=trial_name(trial.number),
            group=_group(study.name, study.run_id),
            job_type="trial",
            config={
                "hpolab/study": study.name,
                "hpolab/trial": trial.number,
                "hpolab/seed": trial.seed,
            },
        )
        return _WandbRun(run, trial, past)

    def end_study(self, study: TrackedStudy, end: StudyEnd) -> None:
        """See `Tracker`."""
        assert study.run_id is not None
        run = self._study_run(study, study.run_id)
        run.summary.update({f"hpolab/n_{state}": n for state, n in end.counts.items()})
        run.summary["hpolab/state"] = end.state
        if end.best is not None:
            value, number = end.best
            run.summary.update({best_name(study.metric): value, "hpolab/best_trial": number})
            best = {f"best/{name}": each for name, each in end.best_params.items()}
            run.config.update(best, allow_val_change=True)
        if end.state == "interrupted":
            run.mark_preempting()
        run.finish(exit_code=1 if end.state == "interrupted" else 0)

    def _folder(self) -> Path:
        return Path(self.folder or os.environ.get("WANDB_DIR") or ".")

    def _open(self, run_id: str, **described: Any) -> Any:
        import wandb

        mode: Any = self.mode
        self._folder().mkdir(parents=True, exist_ok=True)
        # A name of its own: two lives of a run within one second would share a folder.
        settings = {**_SETTINGS, "x_sync_dir_suffix": secrets.token_hex(2)}
        known = wandb.Settings.model_fields
        return wandb.init(
            project=self.project,
            entity=self.entity,
            dir=str(self._folder()),
            mode=mode,
            id=run_id,
            resume="allow",
            reinit="create_new",  # several trials may train in one process
            tags=[f"{name}:{text}" for name, text in as_tags(self.tags).items()],
            settings=wandb.Settings(**{k: v for k, v in settings.items() if k in known}),
            **described,
        )


class _WandbRun(TrialRun):
    """A trial's run in W&B.

    Args:
        run: W&B's own object.
        trial: The trial.
        past: Steps that an earlier life has written on this machine.
    """

    def __init__(self, run: Any, trial: TrackedTrial, past: set[int]) -> None:
        self.id = str(run.id)
        self._run = run
        self._trial = trial
        self._past = past
        # What the server has: W&B ignores steps below.
        self._first = int(run.starting_step) if trial.is_resumed else 0
        self._curve = curve_name(trial.study.metric)

    def set_params(self, params: Mapping[str, Any], *, is_complete: bool) -> None:
        """See `TrialRun`."""
        if params:
            self._run.config.update(dict(params), allow_val_change=True)

    def resume(self, step: int, reports: Mapping[int, float]) -> None:
        """See `TrialRun`."""
        for each, value in reports.items():
            self.step(each, value)

    def step(self, step: int, value: float) -> None:
        """See `TrialRun`."""
        if step >= self._first and step not in self._past:
            # Without `commit` it waits for the next one, and would be lost if that never comes.
            self._run.log({self._curve: value}, step=step, commit=True)

    def end(self, end: TrialEnd) -> None:
        """See `TrialRun`."""
        summary: dict[str, Any] = {**end.metrics, **end.values}
        if end.state != "taken":
            summary["hpolab/state"] = end.state
        if end.reason:
            summary["hpolab/reason"] = end.reason
        if end.best is not None:
            summary[best_name(self._trial.study.metric)] = end.best[0]
        self._run.summary.update(summary)
        if end.state in ("requeued", "taken"):
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if end.state in ("complete", "pruned") else 1)


def _group(study_name: str, run_id: str) -> str:
    """Return the group's name: a study that is deleted and made anew gets another group."""
    return f"{study_name} {run_id}"


def _steps_before(folder: Path, run_id: str, trial: TrackedTrial) -> set[int]:
    """Return the steps that earlier lives of a run have written offline below a folder."""
    found: set[int] = set()
    curve = curve_name(trial.study.metric)
    for file in folder.glob(f"wandb/offline-run-*-{run_id}*/run-{run_id}.wandb"):
        found.update(_steps_in(file.read_bytes(), curve))
    return found


# W&B's files are LevelDB's logs: blocks of records, each with a checksum, its length and whether it
# is whole, or the first, a middle or the last part of one.
_FILE_HEAD = 7
_BLOCK = 32 * 1024
_RECORD = struct.Struct("<IHB")
_WHOLE, _FIRST, _LAST = 1, 2, 4


def _steps_in(content: bytes, curve: str) -> Iterator[int]:
    from wandb.proto import wandb_internal_pb2

    kind: Any = wandb_internal_pb2  # its classes are made when it is loaded
    for raw in _raw_records(content):
        record = kind.Record.FromString(raw)
        if record.WhichOneof("record_type") == "history":
            keys = {item.key or ".".join(item.nested_key) for item in record.history.item}
            if curve in keys:
                yield int(record.history.step.num)


def _raw_records(content: bytes) -> Iterator[bytes]:
    """Return the whole records of a file, which a killed process may have left half-written."""
    place, parts = _FILE_HEAD, b""
    while place + _RECORD.size <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _RECORD.size:
            place += left
            continue
        _, length, kind = _RECORD.unpack_from(content, place)
        start = place + _RECORD.size
        if kind == 0 or start + length > len(content):
            return
        data = content[start : start + length]
        parts = data if kind in (_WHOLE, _FIRST) else parts + data
        if kind in (_WHOLE, _LAST):
            yield parts
        place = start + length
