"""Something that is made once a study, however many workers start in one instant."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection

from hpolab import _optuna

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.storages import BaseStorage

__all__ = ["one_at_a_time"]

_POLL_SECONDS = 0.02

# Whoever holds the claim for so long has died in it.
_STALE_SECONDS = 30.0


@contextmanager
def one_at_a_time(study: Study) -> Iterator[None]:
    """Keep all other processes that ask for the same study from a block of code.

    Of what every storage of Optuna's can do, creating a study is what only one of several workers
    succeeds in: names of studies are unique. So the claim is an empty study, for milliseconds.

    Args:
        study: The study.
    """
    storage = _optuna.storage_of(study)
    digest = blake2b(study.study_name.encode(errors="surrogatepass"), digest_size=12).hexdigest()
    name = f"hpolab:claim:{digest}"
    waited_since = time.monotonic()
    while True:
        try:
            with _unsaid(storage, name):
                claim = storage.create_new_study([StudyDirection.MINIMIZE], name)
            break
        except DuplicatedStudyError:
            if time.monotonic() - waited_since > _STALE_SECONDS:
                _remove(study, name)
                waited_since = time.monotonic()
            time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        with suppress(KeyError):  # another worker has taken this one for dead
            storage.delete_study(claim)


def _remove(study: Study, name: str) -> None:
    storage = _optuna.storage_of(study)
    with suppress(KeyError):
        storage.delete_study(storage.get_study_id_from_name(name))


@contextmanager
def _unsaid(storage: BaseStorage, name: str) -> Iterator[None]:
    """Keep Optuna's storages from saying that a study of this name was created."""

    def is_other(record: logging.LogRecord) -> bool:
        return name not in record.getMessage()

    kept = (storage, getattr(storage, "_backend", storage))
    modules = {kind.__module__ for each in kept for kind in type(each).__mro__}
    loggers = [logging.getLogger(module) for module in modules if module.startswith("optuna.")]
    for logger in loggers:
        logger.addFilter(is_other)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_other)
