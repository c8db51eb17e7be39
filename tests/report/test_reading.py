"""A report only reads its study, and reads what an earlier version of it has left."""

from __future__ import annotations

from optuna.storages import InMemoryStorage
from optuna.trial import create_trial

from hpolab import SearchSpace, make_study


class ReadOnly(InMemoryStorage):
    """A storage that refuses to be written to, once it is closed."""

    closed = False

    def __getattribute__(self, name):
        writes = name.startswith(("set_", "create_", "delete_"))
        if writes and object.__getattribute__(self, "closed"):
            raise AssertionError(f"a report has called {name}")
        return super().__getattribute__(name)


def test_report_writes_nothing_to_the_study(study_of, page):
    storage = ReadOnly()
    study = study_of([0.3, 0.2, 0.5, 0.1] * 5, storage=storage)
    storage.closed = True
    assert "Leaderboard" in page(study).text


def test_space_without_its_trials_is_still_reported(page):
    space = SearchSpace({"x": (0.0, 1.0)})
    study = make_study("later", storage=InMemoryStorage(), search_space=space)
    study.add_trial(create_trial(value=1.0))  # of an earlier space, without x
    assert "Leaderboard" in page(study).text
