"""What JournalFile promises beyond Optuna's file: no crash makes it unreadable, all get a turn."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import create_trial

from hpolab import StorageUnavailable, open_storage
from hpolab.storage import journal
from hpolab.storage.journal import ForkSafeJournalStorage, JournalFile

if TYPE_CHECKING:
    from pathlib import Path


def entry(number: int) -> dict[str, Any]:
    return {"op_code": 7, "number": number}


def numbers(file: JournalFile | JournalFileBackend, start: int = 0) -> list[int]:
    return [log["number"] for log in file.read_logs(start)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.log"


@pytest.fixture
def file(path: Path) -> JournalFile:
    """A journal of three entries."""
    file = JournalFile(path)
    file.append_logs([entry(0), entry(1)])
    file.append_logs([entry(2)])
    return file


class TestOptunasContract(StorageTestCase):
    @pytest.fixture
    def storage(self, path: Path) -> JournalStorage:
        return ForkSafeJournalStorage(JournalFile(path))


# The format.


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 0)
    trial.set_user_attr("ü", ["a\nb", None])
    return x


@pytest.mark.parametrize("writer", [JournalFile, lambda path: JournalFileBackend(str(path))])
@pytest.mark.parametrize("reader", [JournalFile, lambda path: JournalFileBackend(str(path))])
def test_optuna_and_hpolab_read_one_anothers_files(writer: Any, reader: Any, path: Path) -> None:
    study = optuna.create_study(study_name="a", storage=JournalStorage(writer(path)))
    study.optimize(objective, n_trials=2)
    resumed = optuna.load_study(study_name="a", storage=JournalStorage(reader(path)))
    assert resumed.trials == study.trials
    resumed.optimize(objective, n_trials=1)
    assert study.get_trials() == resumed.get_trials()
    assert len(study.trials) == 3


def test_a_reader_reads_no_entry_twice(
    file: JournalFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    parse = JournalFile._entry
    monkeypatch.setattr(
        JournalFile, "_entry", lambda *arguments: parsed.append(1) or parse(*arguments)
    )
    assert numbers(file) == [0, 1, 2]
    JournalFile(path).append_logs([entry(3)])
    assert numbers(file, 3) == [3]
    assert numbers(file, 4) == []
    assert len(parsed) == 4
    assert numbers(file, 1) == [1, 2, 3]


def test_a_reader_that_fails_at_an_entry_goes_on_with_the_next(file: JournalFile) -> None:
    for start in range(3):
        assert next(iter(file.read_logs(start)))["number"] == start
    assert numbers(file, 3) == []


# Crashes.


@pytest.mark.parametrize("torn", [b'{"op_code":7,"num', b"{", b"\0" * 9000, b"\xff"])
def test_a_torn_tail_is_cut_at_opening_and_shown(
    torn: bytes, file: JournalFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    again = JournalFile(path)
    assert path.read_bytes() == whole
    assert f"{len(torn)} bytes, {torn[:10]!r}"[:-1] in caplog.text
    again.append_logs([entry(3)])
    assert numbers(again) == numbers(file) == [0, 1, 2, 3]


def test_a_live_worker_passes_over_a_torn_tail_and_cuts_it(
    file: JournalFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert numbers(file) == [0, 1, 2]
    with path.open("ab") as other:
        other.write(b'{"op_code"')
    assert numbers(file, 3) == []
    file.append_logs([entry(3)])
    assert numbers(file, 3) == [3]
    assert "Cut an entry that a crash left unfinished" in caplog.text


def test_optunas_file_stays_unreadable_after_a_torn_tail(file: JournalFile, path: Path) -> None:
    with path.open("ab") as other:
        other.write(b'{"op_code"')
    optunas = JournalFileBackend(str(path))
    optunas.append_logs([entry(3)])
    optunas.append_logs([entry(4)])
    with pytest.raises(json.JSONDecodeError):
        numbers(optunas)


@pytest.mark.parametrize("garbage", [b"\xff\n", b"lr=0.1\n", b"[]\n", b'{"x":1}\n', b"\n"])
def test_garbage_in_the_middle_is_named_and_left_alone(garbage: bytes, path: Path) -> None:
    study = optuna.create_study(storage=open_storage(f"journal:///{path}"))
    study.optimize(objective, n_trials=1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], garbage, *lines[2:]]))
    before = path.read_bytes()
    with pytest.raises(StorageUnavailable, match="line 3 is not an entry of a journal"):
        open_storage(f"journal:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("log", [{"op_code": 99}, {"op_code": 0}, {"op_code": 7, "trial_id": []}])
def test_an_entry_of_another_optuna_is_refused(log: dict[str, Any], path: Path) -> None:
    JournalFile(path).append_logs([log])
    with pytest.raises(StorageUnavailable, match="Check that the journal is intact"):
        open_storage(f"journal:///{path}")


@pytest.mark.parametrize("n_written", [0, 5, 10_000])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_append_that_fails_is_taken_back(
    n_written: int, code: int, file: JournalFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = journal._write

    def fail(file: Any, data: bytes) -> None:
        write(file, data[:n_written])
        raise OSError(code, os.strerror(code))

    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_write", fail)
        with pytest.raises(StorageUnavailable, match=f"{os.strerror(code)}. What was told before"):
            file.append_logs([entry(3), entry(4)])
    assert path.read_bytes() == before
    file.append_logs([entry(5)])
    assert numbers(file) == [0, 1, 2, 5]


def test_nobody_reads_an_entry_that_may_be_taken_back(
    file: JournalFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, read = JournalFile(path), []
    thread = threading.Thread(target=lambda: read.extend(numbers(reader)))

    def fail(_: int) -> None:
        assert path.stat().st_size > reader_sees
        thread.start()
        time.sleep(0.1)
        raise OSError(errno.EIO, "Input/output error")

    reader_sees = path.stat().st_size
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageUnavailable):
        file.append_logs([entry(3)])
    thread.join()
    assert read == [0, 1, 2]


FILL_UP = """
import resource, sys
from pathlib import Path
from optuna.storages.journal import JournalFileBackend
from hpolab.storage.journal import JournalFile
path = Path(sys.argv[1])
file = JournalFile(path) if sys.argv[2] == "hpolab" else JournalFileBackend(sys.argv[1])
# 90 bytes more, then the system takes a part of a write and refuses the rest, as on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 90,) * 2)
for number in range(3, 100):
    try:
        file.append_logs([{"op_code": 7, "number": number}])
    except Exception as error:
        print(number, type(error).__name__, error)
        break
"""


def test_a_full_disk_stops_cleanly_and_loses_nothing(
    file: JournalFile, path: Path, python: Any
) -> None:
    refused, message = python.output_of(FILL_UP, str(path), "hpolab").split(maxsplit=1)
    assert message.startswith("StorageUnavailable Cannot write to")
    assert "File too large. What was told before is safe" in message
    assert path.read_bytes().endswith(b"\n")
    assert numbers(JournalFile(path)) == list(range(int(refused)))
    file.append_logs([entry(int(refused))])
    assert numbers(file) == list(range(int(refused) + 1))


def test_a_full_disk_makes_optunas_file_unreadable(
    file: JournalFile, path: Path, python: Any
) -> None:
    python.output_of(FILL_UP, str(path), "optuna")
    assert not path.read_bytes().endswith(b"\n")
    optunas = JournalFileBackend(str(path))
    optunas.append_logs([entry(0)])
    optunas.append_logs([entry(1)])
    with pytest.raises(ValueError):  # noqa: PT011 - one of two, by where the write broke off
        numbers(optunas)


# Children are forked by a program of its own, so that pytest's threads are not in them.
KILL_WHILE_APPENDING = """
import os, random, signal, sys, time
from pathlib import Path
from hpolab.storage.journal import JournalFile

path, n_kills, padding = Path(sys.argv[1]), int(sys.argv[2]), "x" * int(sys.argv[3])
acknowledged, n_torn, number = [], 0, 0
for kill in range(n_kills):
    reading, writing = os.pipe()
    children = []
    for i in range(2):
        pid = os.fork()
        if pid == 0:
            file = JournalFile(path)
            for count in range(10**9):
                name = f"{kill}-{i}-{count}"
                file.append_logs([{"op_code": 7, "number": name, "padding": padding}])
                os.write(writing, name.encode() + b" ")
        children.append(pid)
    os.close(writing)
    time.sleep(random.uniform(0.005, 0.03))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with open(reading, "rb") as pipe:
        acknowledged += pipe.read().decode().split()
    n_torn += not path.read_bytes().endswith(b"\\n") if path.exists() else 0
    found = [log["number"] for log in JournalFile(path).read_logs(0)]
    lost = set(acknowledged) - set(found)
    assert not lost, lost
    assert len(found) == len(set(found))
    assert len(set(found) - set(acknowledged)) <= 2 * (kill + 1)
print(len(acknowledged), n_torn)
"""


@pytest.mark.parametrize(
    ("n_kills", "padding"),
    [(25, 0), (12, 500_000), pytest.param(150, 20_000, marks=pytest.mark.long)],
)
def test_a_file_opens_after_any_kill_with_every_entry_that_was_acknowledged(
    n_kills: int, padding: int, path: Path, python: Any
) -> None:
    shown = python.output_of(KILL_WHILE_APPENDING, str(path), str(n_kills), str(padding))
    assert int(shown.split()[0]) >= n_kills


# The lock.


DIE_WITH_THE_LOCK = """
import os, signal, sys
from pathlib import Path
from hpolab.storage import journal
journal._write = lambda file, data: (file.write(data[:5]), os.kill(os.getpid(), signal.SIGKILL))
journal.JournalFile(Path(sys.argv[1])).append_logs([{"op_code": 7}])
"""


def test_a_lock_ends_with_its_process(file: JournalFile, path: Path, python: Any) -> None:
    assert python.run(DIE_WITH_THE_LOCK, str(path)).returncode == -signal.SIGKILL
    start = time.monotonic()
    file.append_logs([entry(3)])
    assert time.monotonic() - start < 1
    assert numbers(file) == [0, 1, 2, 3]
    assert [each.name for each in path.parent.iterdir()] == ["study.log"]


def test_a_dead_lock_file_holds_optuna_up_and_not_us(file: JournalFile, path: Path) -> None:
    JournalFileOpenLock(str(path)).acquire()
    optunas = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
    thread = threading.Thread(target=optunas.append_logs, args=([entry(4)],))
    thread.start()
    file.append_logs([entry(3)])
    thread.join(0.3)
    assert thread.is_alive()
    assert numbers(file) == [0, 1, 2, 3]
    path.with_name("study.log.lock").unlink()
    thread.join()


APPEND_AT_ONCE = """
import os, sys, time
from pathlib import Path
from hpolab.storage.journal import JournalFile
path, start = Path(sys.argv[1]), time.monotonic() + 0.5
for _ in range(8):
    if os.fork() == 0:
        file, n_appends = JournalFile(path), 0
        time.sleep(start - time.monotonic())
        while time.monotonic() < start + 1.5:
            file.append_logs([{"op_code": 7}])
            n_appends += 1
        os.write(1, f"{n_appends} ".encode())
        os._exit(0)
for _ in range(8):
    os.wait()
"""


@pytest.mark.long
def test_the_worst_of_eight_workers_gets_half_of_the_mean(path: Path, python: Any) -> None:
    turns = [int(n) for n in python.output_of(APPEND_AT_ONCE, str(path)).split()]
    assert len(turns) == 8
    assert min(turns) >= 0.5 * statistics.mean(turns)
    assert sum(1 for _ in JournalFile(path).read_logs(0)) == sum(turns)


@pytest.mark.parametrize("lock", [journal._flock, journal._lock_file])
@pytest.mark.parametrize("is_shared", [True, False])
def test_threads_lose_and_double_nothing(
    lock: Any, is_shared: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_locked", lock)
    shared = JournalFile(path)

    def append_and_read(first: int) -> bool:
        file = shared if is_shared else JournalFile(path)
        for number in range(first, first + 20):
            file.append_logs([entry(number)])
            if number not in numbers(file):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(append_and_read, range(0, 160, 20)))
    assert sorted(numbers(shared)) == list(range(160))


ASK_IN_TWO_CHILDREN = """
import os, sys
import optuna
from hpolab import open_storage
from optuna.trial import TrialState, create_trial
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(study_name="a", storage=open_storage(f"journal:///{sys.argv[1]}"))
for _ in range(60):
    study.add_trial(create_trial(state=TrialState.WAITING))
for _ in range(2):
    if os.fork() == 0:
        for _ in range(30):
            os.write(1, f"{study.ask().number} ".encode())
        os._exit(0)
for _ in range(2):
    os.wait()
"""


@pytest.mark.parametrize(
    "entry", ["create_trial", "set_trial_param", "set_trial_user_attr", "set_trial_state_values"]
)
@pytest.mark.parametrize("is_replayed", [True, False], ids=["behind an entry", "before it"])
def test_ctrl_c_in_a_replay_leaves_nothing_out(
    entry: str, is_replayed: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"journal:///{path}"
    writer = optuna.create_study(study_name="s", storage=open_storage(url))
    reader = optuna.load_study(study_name="s", storage=open_storage(url))
    with pytest.raises(KeyError):  # an entry that is refused, which is refused once
        reader._storage.set_trial_user_attr(99, "a", 1)
    trial = writer.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.set_user_attr("a", 1)
    writer.tell(trial, 0.5)
    replay = type(reader._storage._replay_result)
    apply = getattr(replay, f"_apply_{entry}")

    def interrupted(*arguments: Any) -> None:
        if is_replayed:
            apply(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(replay, f"_apply_{entry}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.get_trials()
    assert reader.get_trials() == writer.get_trials()
    reader.tell(reader.ask(), 1.0)
    assert writer.get_trials() == reader.get_trials()
    assert len(writer.trials) == 2


def test_two_forked_children_never_start_the_same_trial(path: Path, python: Any) -> None:
    asked = python.output_of(ASK_IN_TWO_CHILDREN, str(path)).split()
    assert sorted(map(int, asked)) == list(range(60))


def test_a_pickled_file_goes_on(file: JournalFile) -> None:
    copy = pickle.loads(pickle.dumps(file))
    assert numbers(copy) == [0, 1, 2]
    copy.append_logs([entry(3)])
    assert numbers(file, 3) == [3]


# The file is taken away.


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 23)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    path.write_bytes(b'{"op_code":7,"number":8}\n' * 20)


@pytest.mark.parametrize("call", ["append", "read"])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (delete, "it was deleted"),
        (replace, "it was replaced by another file"),
        (shorten, "it was shortened"),
        (empty, "it was shortened"),
        (overwrite, "what was read from it before has been overwritten"),
    ],
)
def test_a_file_that_was_taken_away_is_an_error(
    harm: Any, reason: str, call: str, file: JournalFile, path: Path
) -> None:
    assert numbers(file) == [0, 1, 2]
    harm(path)
    after = path.read_bytes() if path.exists() else None
    with pytest.raises(StorageUnavailable, match=reason):
        file.append_logs([entry(3)]) if call == "append" else numbers(file, 3)
    assert (path.read_bytes() if path.exists() else None) == after


def test_a_study_whose_file_was_deleted_stops(path: Path) -> None:
    study = optuna.create_study(storage=open_storage(f"journal:///{path}"))
    study.add_trial(create_trial(value=1.0))
    path.unlink()
    with pytest.raises(StorageUnavailable, match="it was deleted"):
        study.add_trial(create_trial(value=2.0))
    assert not path.exists()
