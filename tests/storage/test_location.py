"""A storage may be named by the path of a file: what it holds, or its name, tells the kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpolab import (
    InvalidArgument,
    InvalidType,
    check_storage,
    copy_study,
    load_study,
    make_study,
    open_storage,
    run,
)
from hpolab.storage.location import is_location, url_of

NAMES = ["a.db", "a.sqlite", "a.sqlite3", "A.DB", "a.log", "a.journal", "a b.db"]


def square(trial):
    return trial.suggest_float("x", -1, 1) ** 2


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", NAMES)
def test_study_is_made_in_a_file_and_found_there_by_its_url(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(make_study("s", storage=kind(name)), square, n_trials=2)
    scheme = "journal" if name.endswith(("log", "journal")) else "sqlite"
    assert len(load_study("s", storage=f"{scheme}:///{name}").trials) == 2
    assert len(load_study("s", storage=kind(tmp_path / name)).trials) == 2


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
@pytest.mark.parametrize("name", ["study", "study.bin", "study.of.mine"])
def test_file_that_is_there_is_known_by_what_it_holds(scheme, name, tmp_path):
    path = tmp_path / name
    run(make_study("s", storage=f"{scheme}:///{path}"), square, n_trials=1)
    assert url_of(path) == f"{scheme}:///{path}"
    assert is_location(str(path))
    assert len(load_study("s", storage=path).trials) == 1


def test_every_function_takes_a_path(tmp_path, monkeypatch):
    first, second = tmp_path / "a.db", tmp_path / "b.log"
    run(make_study("s", storage=first), square, n_trials=1)
    assert copy_study("s", storage=first, to_storage=second) == 1
    assert len(load_study("s", storage=second).trials) == 1
    assert check_storage(first).url == f"sqlite:///{first}"
    monkeypatch.setenv("HPOLAB_STORAGE", str(second))
    assert len(load_study("s").trials) == 1


@pytest.mark.parametrize(
    ("storage", "hint"),
    [
        ("study", ".db"),
        ("study.json", ".db"),
        ("", ".db"),
        ("sqlite:a.db", "Did you mean 'sqlite:///a.db'?"),
        ("sqlite:/a.db", "Did you mean 'sqlite:///a.db'?"),
        ("redis:localhost", "Did you mean 'redis://localhost'?"),
        ("memory", "Did you mean 'memory://'?"),
        ("stuudy", "Did you mean 'study.db'?"),
    ],
)
def test_what_is_neither_a_url_nor_a_file_is_refused_with_a_way(
    storage, hint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    open_storage("study.db")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InvalidArgument) as refused:
        make_study("s", storage=storage)
    assert hint in str(refused.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("storage", [3, b"a.db", ["a.db"], object()])
def test_what_is_no_text_is_refused(storage):
    with pytest.raises(InvalidType, match="`storage` must be a URL"):
        make_study("s", storage=storage)


def test_a_refusal_shows_no_password():
    with pytest.raises(InvalidArgument) as refused:
        open_storage("postgresql:ada:secret@host/db")
    assert "secret" not in str(refused.value)
