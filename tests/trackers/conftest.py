"""Real local stores of each tracker, read back by the tracker's own means."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from hpolab import MLflowTracker, TensorBoardTracker, WandbTracker

if TYPE_CHECKING:
    from collections.abc import Iterator

# What MLflow's SQLAlchemy store and W&B warn of themselves.
NOISE = [
    "ignore:The ``noload`` loader strategy is deprecated",
    "ignore:.*:ResourceWarning",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.needs("mlflow", "tensorboard", "wandb"))
            for line in NOISE:
                item.add_marker(pytest.mark.filterwarnings(line))


@dataclass
class StoredRun:
    """A run as a store has it, in words that all stores share."""

    name: str = ""
    state: str = ""
    reason: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    status: str = ""
    parent: str = ""
    n_lives: int = 1


class MLflowStore:
    """MLflow in a file of SQLite's."""

    statuses: ClassVar = {
        "complete": "FINISHED",
        "pruned": "KILLED",
        "failed": "FAILED",
        "requeued": "SCHEDULED",
    }

    def __init__(self, folder: Path, template: Path) -> None:
        # A new database takes MLflow two seconds.
        shutil.copy(template, folder / "mlflow.db")
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.tracker = MLflowTracker(tracking_uri=self.uri, tags={"team": "vision"})
        self.unusable = MLflowTracker(tracking_uri="no-such-scheme://host")

    def _runs(self) -> list[Any]:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        ids = [each.experiment_id for each in client.search_experiments()]
        return [(client, run) for run in client.search_runs(ids, max_results=1000)]

    def studies(self) -> list[StoredRun]:
        found = [(c, run) for c, run in self._runs() if run.data.tags["hpolab.kind"] == "study"]
        return [
            StoredRun(
                name=run.info.run_name,
                state=run.data.tags.get("hpolab.state", ""),
                values=dict(run.data.metrics),
                status=run.info.status,
                parent=run.info.run_id,
            )
            for _, run in found
        ]

    def trials(self) -> dict[int, StoredRun]:
        found: dict[int, StoredRun] = {}
        for client, run in self._runs():
            tags = run.data.tags
            if tags["hpolab.kind"] != "trial":
                continue
            assert tags["team"] == "vision"
            number = int(tags["hpolab.trial"])
            assert number not in found, "two runs of one trial"
            curves = [name for name in run.data.metrics if name.endswith("_by_step")]
            points = [
                (point.step, point.value)
                for name in curves
                for point in client.get_metric_history(run.info.run_id, name)
            ]
            found[number] = StoredRun(
                name=run.info.run_name,
                state=tags["hpolab.state"],
                reason=tags.get("hpolab.reason", ""),
                params=dict(run.data.params),
                curve=sorted(points),
                values={k: v for k, v in run.data.metrics.items() if k not in curves},
                status=run.info.status,
                parent=tags["mlflow.parentRunId"],
            )
        return found

    def text(self) -> str:
        return Path(self.uri.removeprefix("sqlite:///")).read_bytes().decode(errors="replace")


class WandbStore:
    """W&B's offline files; a resumed run has one a life, which ``wandb sync`` joins."""

    statuses: ClassVar = {"complete": "0", "pruned": "0", "failed": "1", "requeued": "1"}

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "wb"
        self.tracker = WandbTracker(
            "hpolab", mode="offline", folder=str(self.folder), tags={"team": "vision"}
        )
        self.unusable = WandbTracker("hpolab", mode="online", folder=str(self.folder))

    def _runs(self) -> dict[str, StoredRun]:
        from wandb.util import get_core_path

        found: dict[str, StoredRun] = {}
        for file in sorted(self.folder.glob("wandb/offline-run-*/run-*.wandb")):
            # What `wandb leet inspect --json FILE` starts.
            command = [get_core_path(), "leet", "inspect", "--json", "--run-file", str(file)]
            command.append(str(file.parent.parent))
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            for line in done.stdout.splitlines():
                record = json.loads(line)
                if record["type"] == "run":
                    head = record["run"]
                    if head["run_id"] in found:
                        run = found[head["run_id"]]
                        run.n_lives += 1
                    else:
                        run = found[head["run_id"]] = StoredRun(parent=head["run_group"])
                        run.name = f"{head['job_type']} {head['display_name']}"
                    assert head["tags"] == ["team:vision"]
                    run.params |= head.get("config", {}).get("update", {})
                elif record["type"] == "config":
                    run.params |= record["config"].get("update", {})
                elif record["type"] == "history":
                    item = record["history"]["item"]
                    (value,) = [v for k, v in item.items() if k.endswith("_by_step")]
                    run.curve.append((record["history"]["step"]["num"], value))
                elif record["type"] == "summary":
                    run.values |= record["summary"].get("update", {})
                elif record["type"] == "exit":
                    run.status = str(record["exit"].get("exit_code", 0))
        for run in found.values():
            run.state = run.values.get("hpolab/state", "")
            run.reason = run.values.get("hpolab/reason", "")
        return found

    def studies(self) -> list[StoredRun]:
        found = [run for run in self._runs().values() if run.name.startswith("study ")]
        for run in found:
            run.name = run.name.removeprefix("study ")
        return found

    def trials(self) -> dict[int, StoredRun]:
        found = {}
        for run in self._runs().values():
            if run.name.startswith("trial "):
                number = run.params.pop("hpolab/trial")
                assert number not in found, "two runs of one trial"
                own = ("_wandb", "hpolab/study", "hpolab/seed")
                run.params = {k: str(v) for k, v in run.params.items() if k not in own}
                found[number] = run
        return found

    def text(self) -> str:
        files = self.folder.glob("wandb/offline-run-*/*.wandb")
        return "".join(file.read_bytes().decode(errors="replace") for file in files)


class TensorBoardStore:
    """TensorBoard's event files."""

    statuses: ClassVar = {"complete": "1", "pruned": "1", "failed": "2", "requeued": ""}

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "logs"
        self.tracker = TensorBoardTracker(self.folder)
        (folder / "a file").write_text("")
        self.unusable = TensorBoardTracker(folder / "a file" / "logs")

    def _read(self, folder: Path) -> StoredRun:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.plugins.hparams import plugin_data_pb2

        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        run = StoredRun(name=folder.name, parent=folder.parent.name)
        for tag in events.Tags()["scalars"]:
            points = [(point.step, point.value) for point in events.Scalars(tag)]
            if tag.endswith("_by_step"):
                run.curve = points
            else:
                run.values[tag] = points[-1][1]
        for tag in events.Tags()["tensors"]:
            plugin = events.SummaryMetadata(tag).plugin_data
            if plugin.plugin_name == "text":
                words = events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
                run.state, _, run.reason = words.rpartition(" (seed")[0].partition(": ")
            elif plugin.plugin_name == "hparams":
                data = plugin_data_pb2.HParamsPluginData.FromString(plugin.content)
                for name, value in data.session_start_info.hparams.items():
                    kind = value.WhichOneof("kind")
                    run.params[name] = str(getattr(value, kind))
                if data.HasField("session_end_info"):
                    run.status = str(data.session_end_info.status)
        return run

    def studies(self) -> list[StoredRun]:
        return [self._read(folder) for folder in sorted(self.folder.iterdir())]

    def trials(self) -> dict[int, StoredRun]:
        folders = sorted(self.folder.glob("*/trial-*"))
        return {int(folder.name.partition("-")[2]): self._read(folder) for folder in folders}

    def text(self) -> str:
        files = self.folder.rglob("*tfevents*")
        return "".join(file.read_bytes().decode(errors="replace") for file in files)


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database of MLflow's."""
    path = tmp_path_factory.mktemp("mlflow") / "new.db"
    code = "import sys, mlflow; mlflow.MlflowClient(sys.argv[1]).search_experiments()"
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{path}"], check=True)
    return path


@pytest.fixture(params=["mlflow", "wandb", "tensorboard"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A store of each kind, empty."""
    if request.param == "mlflow":
        yield MLflowStore(tmp_path, request.getfixturevalue("mlflow_template"))
    elif request.param == "tensorboard":
        yield TensorBoardStore(tmp_path)
    else:
        import wandb

        yield WandbStore(tmp_path)
        wandb.teardown()  # its service process


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's own user has set up must not count."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
