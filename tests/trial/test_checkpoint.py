"""Checkpoints: kept beside the storage, whole or not at all, gone when the trial ends."""

from __future__ import annotations

import io
import re
import signal
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from hpolab import CheckpointFolder, InvalidArgument, Reporter, load_study, make_study, run
from hpolab.trial.checkpoint import Checkpoint, TrialCheckpoints, default_store
from hpolab.trial.sealed import seal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHECKPOINT = Checkpoint(step=3, reports={0: 1.0, 3: 0.5}, progress={"best_step": 3}, state=b"\x00w")


def test_checkpoint_survives_bytes():
    assert Checkpoint.from_bytes(CHECKPOINT.to_bytes()) == CHECKPOINT


@pytest.mark.parametrize("place", [0, 5, 25, 60, -1])
def test_any_changed_byte_is_noticed(place):
    raw = bytearray(CHECKPOINT.to_bytes())
    raw[place] ^= 1
    with pytest.raises(ValueError, match=r"checksum differs|does not begin"):
        Checkpoint.from_bytes(bytes(raw))


@pytest.mark.parametrize("length", [0, 10, 40, -1])
def test_any_cut_is_noticed(length):
    with pytest.raises(ValueError, match=r"checksum differs|does not begin"):
        Checkpoint.from_bytes(CHECKPOINT.to_bytes()[:length])


def test_folder_is_an_artifact_store(tmp_path):
    store = CheckpointFolder(tmp_path / "checkpoints")
    with pytest.raises(ArtifactNotFound):
        store.open_reader("a")
    with pytest.raises(ArtifactNotFound):
        store.remove("a")
    store.write("a", io.BytesIO(b"one"))
    store.write("a", io.BytesIO(b"two"))
    with store.open_reader("a") as reader:
        assert reader.read() == b"two"
    store.remove("a")
    assert not (tmp_path / "checkpoints").exists()


def test_failed_write_leaves_the_old_checkpoint(tmp_path):
    store = CheckpointFolder(tmp_path)
    store.write("a", io.BytesIO(b"one"))

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.write("a", Failing())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"one"


def test_studies_and_trials_have_checkpoints_of_their_own(tmp_path):
    store = CheckpointFolder(tmp_path)
    for name in ("a/b", "a_b", "ä" * 200):
        for number in (1, 11):
            TrialCheckpoints(store, name, number).save(CHECKPOINT)
    assert len(list(tmp_path.iterdir())) == 6


def test_default_place_is_beside_the_file_and_nowhere_for_memory(tmp_path):
    store = default_store(make_study("s", storage=f"sqlite:///{tmp_path}/s.db"))
    assert isinstance(store, CheckpointFolder)
    assert store.folder == tmp_path / "s.db.checkpoints"
    store = default_store(make_study("s", storage=f"journal:///{tmp_path}/s.log"))
    assert isinstance(store, CheckpointFolder)
    assert store.folder == tmp_path / "s.log.checkpoints"
    assert default_store(make_study("s", storage="memory://")) is None


SCRIPT = """
import json, os, signal, sys
from hpolab import Reporter, make_study, run
url, die_at = sys.argv[1], int(sys.argv[2])

def objective(trial):
    with Reporter(trial, patience=50, checkpoint_seconds=0) as reporter:
        state = reporter.restore()
        trained = [] if state is None else json.loads(state)
        for epoch in reporter.steps(8):
            if epoch == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            trained.append(epoch)
            reporter.report(1 / (epoch + 1), epoch, state=lambda: json.dumps(trained).encode())
        trial.set_user_attr("trained", trained)
        trial.set_user_attr("resumed", state is not None)
        return reporter.best_value

run(make_study("s", storage=url, pruner="none"), objective, n_trials=1)
"""


@pytest.fixture
def train(python: Any) -> Callable[..., Any]:
    """Trains in a process of its own, which may die at an epoch."""
    return lambda url, die_at=-1: python.run(SCRIPT, url, str(die_at))


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/s.db"


def folder(tmp_path: Path) -> Path:
    return tmp_path / "s.db.checkpoints"


def test_killed_training_goes_on_behind_its_last_checkpoint(url, tmp_path, train):
    assert train(url, die_at=3).returncode == -signal.SIGKILL
    assert len(list(folder(tmp_path).iterdir())) == 1
    second = train(url, die_at=6)
    assert second.returncode == -signal.SIGKILL
    assert re.search(r"Trial 0 of study 's' is requeued. Its worker \(pid \d+ on", second.stderr)
    assert "Trial 0 of study 's' resumes from its checkpoint, behind step 2." in second.stderr
    assert train(url).returncode == 0
    trial = load_study("s", storage=url).trials[0]
    assert trial.user_attrs["trained"] == list(range(8))
    assert trial.user_attrs["resumed"]
    assert trial.value == 1 / 8
    assert list(trial.intermediate_values) == list(range(8))
    assert not folder(tmp_path).exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damaged_checkpoint_is_said_and_the_trial_starts_over(url, tmp_path, damage, train):
    assert train(url, die_at=5).returncode == -signal.SIGKILL
    (checkpoint,) = folder(tmp_path).iterdir()
    raw = bytearray(checkpoint.read_bytes())
    if damage == "flip":
        raw[-1] ^= 1
    checkpoint.write_bytes({"flip": raw, "cut": raw[:-3], "empty": b""}[damage])
    resumed = train(url)
    assert resumed.returncode == 0
    assert "is damaged" in resumed.stderr
    trial = load_study("s", storage=url).trials[0]
    assert trial.user_attrs["trained"] == list(range(8))
    assert not trial.user_attrs["resumed"]


def test_missing_checkpoint_starts_the_trial_over(url, tmp_path, train):
    assert train(url, die_at=5).returncode == -signal.SIGKILL
    for checkpoint in folder(tmp_path).iterdir():
        checkpoint.unlink()
    assert train(url).returncode == 0
    assert load_study("s", storage=url).trials[0].user_attrs["trained"] == list(range(8))


@pytest.mark.parametrize("error", [None, optuna.TrialPruned("p"), ValueError("v")])
def test_checkpoint_is_removed_when_the_trial_ends_in_any_way(url, tmp_path, error):
    def objective(trial: optuna.Trial) -> float:
        with Reporter(trial, checkpoint_seconds=0) as reporter:
            reporter.report(1.0, 0, state=lambda: b"w")
            assert folder(tmp_path).exists()
            if error is not None:
                raise error
        return 1.0

    run(make_study("s", storage=url), objective, n_trials=1)
    assert not folder(tmp_path).exists()


def test_ctrl_c_leaves_the_checkpoint_to_the_next_worker(url, tmp_path):
    study = make_study("s", storage=url)

    def objective(trial: optuna.Trial) -> float:
        with Reporter(trial, checkpoint_seconds=0) as reporter:
            if reporter.restore() == b"w":
                return 2.0
            reporter.report(1.0, 0, state=lambda: b"w")
            signal.raise_signal(signal.SIGINT)
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        run(study, objective, n_trials=1)
    run(study, objective, n_trials=1)
    assert study.trials[0].value == 2.0
    assert not folder(tmp_path).exists()


def test_artifact_store_of_optuna_keeps_checkpoints(url, tmp_path):
    (tmp_path / "artifacts").mkdir()
    store = FileSystemArtifactStore(tmp_path / "artifacts")
    study = make_study("s", storage=url)
    trial = study.ask()
    Reporter(trial, checkpoints=store, checkpoint_seconds=0).report(1.0, 0, state=lambda: b"w")
    again = Reporter(trial, checkpoints=store)
    assert again.restore() == b"w"
    assert list(again.steps(3)) == [1, 2]
    with again:
        pass
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_reporter_takes_up_best_value_patience_and_reports(url):
    study = make_study("s", storage=url)
    trial = study.ask()
    first = Reporter(trial, patience=3, checkpoint_seconds=0)
    for step, value in enumerate([3.0, 1.0, 2.0]):
        first.report(value, step, state=lambda: b"w")
    again = Reporter(trial, patience=3)
    again.restore()
    assert (again.best_value, again.best_step) == (1.0, 1)
    again.report(5.0, 3)
    again.report(5.0, 4)
    assert again.should_stop


def test_checkpoints_keep_their_distance(url, tmp_path):
    study = make_study("s", storage=url)
    calls = []
    reporter = Reporter(study.ask(), checkpoint_every=3, checkpoint_seconds=0)
    for step in range(7):
        reporter.report(1.0, step, state=lambda step=step: calls.append(step) or b"w")
    assert calls == [0, 2, 5]  # the first only to see that it can be kept
    calls.clear()
    reporter = Reporter(study.ask(), checkpoint_every=2)  # as often as is said, however quick
    for step in range(4):
        reporter.report(1.0, step, state=lambda step=step: calls.append(step) or b"w")
    assert calls == [0, 1, 3]
    calls[:] = [0, 2, 5]
    reporter = Reporter(study.ask())  # ten seconds have not passed
    for step in range(3):
        reporter.report(1.0, step, state=lambda step=step: calls.append(step) or b"w")
    assert calls == [0, 2, 5, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint_every": 0}, "`checkpoint_every` must be 1 or above, or None, got 0"),
        ({"checkpoint_seconds": -1}, "`checkpoint_seconds` must be 0 or above, got -1"),
    ],
)
def test_bad_setting_is_refused(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        Reporter(make_study("s", storage="memory://").ask(), **arguments)


def test_checkpoint_of_an_earlier_hpolab_is_restored(url):
    trial = make_study("s", storage=url).ask()
    head = {"step": 3, "reports": {"3": 0.5}}
    head["progress"] = {
        "best_value": 0.5,
        "best_step": 3,
        "without_improvement": 0,
        "elapsed_seconds": 1.0,
    }
    raw = seal(b"hpolab checkpoint 1\n", head, b"weights")
    TrialCheckpoints(default_store(trial.study), "s", 0).save(Checkpoint.from_bytes(raw))
    reporter = Reporter(trial)
    assert reporter.restore() == b"weights"
    assert reporter.next_step == 4
