"""What a file's URL names, and files that cannot be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpolab import InvalidArgument, StorageUnavailable, check_storage, make_study, open_storage, run
from hpolab.storage.paths import path_of
from hpolab.trial.checkpoint import default_store

if TYPE_CHECKING:
    import optuna

ODD_NAMES = [
    "exp?lr=1",
    "100%",
    "my%20project",
    "a#b",
    "a b",
    "a&b;c",
    "a{b}",
    "[old]",
    "~x",
    "größe",
    "a:b@c",
    "$HOME",
    "'q\"",
    "?mode=ro",
    "%3F",
]


def one(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_study_is_kept_in_the_folder_that_was_named(
    scheme: str, name: str, is_absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in {name, name.partition("?")[0], "my project", "?"} - {""}:
        Path(folder).mkdir()
    before = set(tmp_path.rglob("*"))
    if is_absolute:
        url = f"{scheme}:///{tmp_path}/{name}/study"
    else:
        monkeypatch.chdir(name)
        url = f"{scheme}:///study"
    study = make_study("s", storage=url, sampler="random")
    run(study, one, n_trials=2)
    assert len(make_study("s", storage=url).trials) == 2
    assert {path.parent for path in set(tmp_path.rglob("*")) - before} == {tmp_path / name}
    assert check_storage(url).process_kill.kept
    store = default_store(study)
    assert store is not None
    assert store.folder == tmp_path / name / "study.checkpoints"  # type: ignore[attr-defined]


def test_workers_keep_to_the_folder_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exp?lr=1%20").mkdir()
    monkeypatch.chdir(tmp_path / "exp?lr=1%20")
    study = make_study("s", storage="sqlite:///study.db", sampler="random")
    run(study, one, n_trials=3, n_workers=2)
    assert len(study.trials) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["exp?lr=1%20"]


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
@pytest.mark.parametrize("name", ["acc%20test.db", "a#b.db", "a%3Fb", "~.db", "a&b=c"])
def test_a_files_name_stands_as_it_is(
    scheme: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(make_study("s", storage=f"{scheme}:///{name}", sampler="random"), one, n_trials=1)
    names = {path.name for path in tmp_path.iterdir()}
    assert {each for each in names if not each.endswith(("-wal", "-shm"))} == {name}


def test_a_new_file_beside_the_one_that_the_url_decoded_would_name_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_storage(f"sqlite:///{tmp_path}/acc test.db")
    open_storage(f"sqlite:///{tmp_path}/acc%20test.db")
    assert "acc test.db" in caplog.text
    assert "not decoded" in caplog.text


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("study.db?timeout=5", "no options behind a '?'"),
        ("exp?lr=1.db", "no options behind a '?'"),
        ("study.db\n", "control characters or blanks"),
        ("study.db ", "control characters or blanks"),
        ("a\0b.db", "control characters"),
        ("name \ud800.db", "control characters"),
        ("folder/", "must be of the form"),
        ("folder/.", "must be of the form"),
        ("..", "must be of the form"),
    ],
)
def test_a_name_that_may_mean_something_else_is_refused(
    scheme: str, rest: str, message: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        open_storage(f"{scheme}:///{rest}")
    assert message in str(refusal.value)


@pytest.mark.skipif(os.sep == "\\", reason="a path of Windows is one there")
@pytest.mark.parametrize("name", [r"C:\runs\study.db", r"runs\study.db"])
def test_a_path_of_windows_names_no_file_elsewhere(name: str) -> None:
    with pytest.raises(InvalidArgument, match="this is not Windows"):
        path_of(f"sqlite:///{name}")


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("n" * 300, "File name too long"),
        # The checkpoints that stand beside the file would not fit.
        ("n" * 250, "File name too long"),
        ("f/" * 3000 + "study", "File name too long"),
        ("~/study.db", "A '~' is not expanded"),
        ("circle/study.db", "Too many levels of symbolic links"),
        ("file/study.db", "there is no folder"),
    ],
)
def test_a_file_that_cannot_be_is_refused_by_our_own_error(
    scheme: str, name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    Path("file").touch()
    with pytest.raises(StorageUnavailable, match=reason):
        open_storage(f"{scheme}:///{name}")
    assert {path.name for path in tmp_path.iterdir()} == {"circle", "file"}
