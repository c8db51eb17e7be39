"""TensorBoard: a study is a folder, its trials are folders in it."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, InvalidType, check_folder, needs
from hpolab.trackers.events import EventFile
from hpolab.trackers.names import best_name, curve_name
from hpolab.trial.tracker import Tracker, TrialRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.trial.tracker import StudyEnd, TrackedStudy, TrackedTrial, TrialEnd

__all__ = ["TensorBoardTracker"]

_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class TensorBoardTracker(Tracker):
    """Tracks studies for TensorBoard: ``tensorboard --logdir logs`` shows them.

    A study is a folder with its name, and each trial a folder in it, ``trial-0003``. A trial shows
    its value under the metric's name and its reports as a curve (``<metric>_by_step``). The HParams
    tab has all trials with their parameters in the trainer's own names. The study's folder has the
    best value so far, by finished trials. Neither PyTorch nor TensorFlow is needed.

    A resumed trial goes on in its folder. TensorBoard forgets the steps behind its last checkpoint,
    which are trained and logged again.

    Args:
        logdir: Where TensorBoard looks; made if there is none. Workers on several machines need it
            on a disk that all of them see.

    Raises:
        InvalidType: If ``logdir`` is no path.

    Example:
        >>> TensorBoardTracker("logs").logdir
        'logs'
    """

    logdir: str | os.PathLike[str] = "logs"

    def __post_init__(self) -> None:
        if not isinstance(self.logdir, str | os.PathLike):
            raise InvalidType(f"`logdir` must be a path, got {type(self.logdir).__name__}.")

    @property
    def key(self) -> str:
        """See `Tracker`: the folder as it is given."""
        return f"tensorboard:{os.fspath(self.logdir)}"

    def check(self) -> None:
        """See `Tracker`: TensorBoard must be there, and the folder can be written."""
        with needs("`TensorBoardTracker`", "TensorBoard", "tensorboard"):
            import tensorboard.summary.writer.record_writer  # noqa: F401
        folder = Path(self.logdir).absolute()
        try:
            check_folder(folder)
        except InvalidArgument as error:
            raise InvalidArgument(str(error).replace("`folder`", "`logdir`")) from None
        there = next(each for each in (folder, *folder.parents) if each.is_dir())
        if not os.access(there, os.W_OK):
            raise InvalidArgument(
                f"`logdir` must be a folder that can be written, got {str(folder)!r}."
            )

    def start_study(self, study: TrackedStudy) -> str:
        """See `Tracker`; a study of the same name that was deleted keeps its folder."""
        if study.run_id is not None:
            return study.run_id
        root = Path(self.logdir)
        root.mkdir(parents=True, exist_ok=True)
        plain = _NOT_IN_NAMES.sub("_", study.name).strip("._")[:100] or "study"
        number = 1
        while True:
            name = plain if number == 1 else f"{plain}-{number}"
            try:
                (root / name).mkdir()
            except FileExistsError:
                number += 1
            else:
                return name

    def start_trial(self, trial: TrackedTrial) -> TrialRun:
        """See `Tracker`."""
        return _TensorBoardRun(Path(self.logdir), trial)

    def end_study(self, study: TrackedStudy, end: StudyEnd) -> None:
        """See `Tracker`: what is known of the study's end is in the trials' folders by then."""


class _TensorBoardRun(TrialRun):
    """A trial's folder.

    Args:
        root: The folder of all studies.
        trial: The trial.
    """

    def __init__(self, root: Path, trial: TrackedTrial) -> None:
        assert trial.study.run_id is not None
        self._study_folder = root / trial.study.run_id
        self.id = trial.run_id or f"{trial.study.run_id}/trial-{trial.number:04d}"
        self._file = EventFile(root / self.id)
        self._trial = trial
        self._has_params = False
        self._curve = curve_name(trial.study.metric)

    def set_params(self, params: Mapping[str, Any], *, is_complete: bool) -> None:
        """See `TrialRun`: TensorBoard reads the first that it finds, so all must be known."""
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2

        if self._has_params or not is_complete:
            return
        self._has_params = True
        if self._trial.is_resumed and _has_tag(self._file, metadata.SESSION_START_INFO_TAG):
            return
        info = plugin_data_pb2.SessionStartInfo(
            group_name=f"trial {self._trial.number}", start_time_secs=time.time()
        )
        for name, value in params.items():
            if isinstance(value, bool):
                info.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                info.hparams[name].number_value = value
            else:
                info.hparams[name].string_value = str(value)
        self._write_hparams(
            metadata.SESSION_START_INFO_TAG,
            plugin_data_pb2.HParamsPluginData(session_start_info=info),
        )

    def _write_hparams(self, tag: str, data: Any) -> None:
        from tensorboard.plugins.hparams import metadata

        self._file.plugin(tag, metadata.create_summary_metadata(data), metadata.NULL_TENSOR)

    def resume(self, step: int, reports: Mapping[int, float]) -> None:
        """See `TrialRun`."""
        known: set[int] = set()
        if self._trial.is_resumed:
            self._file.purge_from(step)
            known = {
                event.step
                for event in self._file.events()
                if any(value.tag == self._curve for value in event.summary.value)
            }
        for each, value in reports.items():
            if each not in known:
                self.step(each, value)

    def step(self, step: int, value: float) -> None:
        """See `TrialRun`."""
        self._file.scalar(self._curve, value, step)

    def end(self, end: TrialEnd) -> None:
        """See `TrialRun`."""
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        if end.state in ("requeued", "taken"):
            return
        for name, number in {**end.metrics, **end.values}.items():
            self._file.scalar(name, number, 0)
        failed = end.state == "failed"
        info = plugin_data_pb2.SessionEndInfo(
            status=api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS,
            end_time_secs=time.time(),
        )
        self._write_hparams(
            metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=info)
        )
        self._write_words(end)
        if end.best is not None:
            parent = EventFile(self._study_folder)
            # Not by number: TensorBoard drops points behind a step that comes too late.
            parent.scalar(best_name(self._trial.study.metric), end.best[0], end.n_finished)

    def _write_words(self, end: TrialEnd) -> None:
        """Write how the trial ended where TensorBoard's Text tab shows it."""
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text import metadata

        trial = self._trial
        words = f"{end.state}{f': {end.reason}' if end.reason else ''} (seed {trial.seed})"
        tensor = TensorProto(dtype=DT_STRING, string_val=[words.encode()])
        tensor.tensor_shape.dim.add(size=1)
        self._file.plugin(
            "state", metadata.create_summary_metadata(display_name="", description=""), tensor
        )


def _has_tag(file: EventFile, tag: str) -> bool:
    return any(value.tag == tag for event in file.events() for value in event.summary.value)
