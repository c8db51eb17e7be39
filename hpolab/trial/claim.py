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
from hpolab.trial.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.storages import BaseStorage

__all__ = ["one_at_a_time"]

_POLL_SECONDS = 0.02

# Whoever holds the claim for so long has died in it, where its process cannot be looked up: it is
# on another host, or was killed before it could write who it is.
_STALE_SECONDS = 300.0
_NAMELESS_SECONDS = 30.0

_OWNER_KEY = "hpolab:owner"


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
            if _is_stale(storage, name, time.monotonic() - waited_since):
                _remove(storage, name)
                waited_since = time.monotonic()
            time.sleep(_POLL_SECONDS)
    try:
        storage.set_study_user_attr(claim, _OWNER_KEY, Lease.mine().as_mark()[1])
        yield
    finally:
        with suppress(KeyError):  # another worker has taken this one for dead
            storage.delete_study(claim)


def _is_stale(storage: BaseStorage, name: str, waited_seconds: float) -> bool:
    """Tell whether whoever holds a claim is dead."""
    try:
        attrs = storage.get_study_user_attrs(storage.get_study_id_from_name(name))
    except KeyError:
        return False  # it has just ended
    owner = attrs.get(_OWNER_KEY)
    if owner is None:
        return waited_seconds > _NAMELESS_SECONDS
    lease = Lease.read(owner)
    return lease.process_is_dead() if lease.is_here else waited_seconds > _STALE_SECONDS


def _remove(storage: BaseStorage, name: str) -> None:
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
