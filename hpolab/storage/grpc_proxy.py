"""Optuna's gRPC storage, whose server may be restarted while a study runs.

Optuna's underscored names here: its `_setup` makes the channel, whose settings it has no argument
for.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import wraps
from typing import TYPE_CHECKING, Any, final

import grpc
from optuna.storages import GrpcStorageProxy
from optuna.storages._grpc.auto_generated import api_pb2
from optuna.storages._grpc.auto_generated.api_pb2_grpc import StorageServiceStub
from optuna.storages._grpc.client import GrpcClientCache
from optuna.storages._grpc.servicer import _from_proto_trial, _from_proto_trial_state
from optuna.study import StudyDirection

from hpolab._optuna import HeldTrials
from hpolab.errors import StorageUnavailable
from hpolab.storage.database import FinishesAgain, Interrupted, repeated
from hpolab.storage.glance import CONSTRAINTS, Glance, violates

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GrpcStorage"]

_CHANNEL_OPTIONS = [
    # As Optuna's own: a list of trials has no limit.
    ("grpc.max_receive_message_length", -1),
    # A server that is back is tried at once; by default the pauses grow to two minutes.
    ("grpc.max_reconnect_backoff_ms", 1000),
]

# What gRPC says where a request has never left this process.
_NEVER_SENT = ("failed to connect", "dns resolution failed", "name resolution")


def _called(method: Callable[..., Any], *, harmless: bool = True) -> Any:
    """Call a method of the proxy's, again if its server is away; gRPC's own errors end here.

    Args:
        method: The method. It raises what Optuna's contract names for what the server refuses.
        harmless: As in `repeated`.
    """

    @wraps(method)
    def call(self: GrpcStorage, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except grpc.RpcError as error:
            status, said = error.code(), _said(error)
        # Raised out here, so that gRPC's error is not kept as the context of ours.
        if status == grpc.StatusCode.UNAVAILABLE:
            never_sent = any(words in said.lower() for words in _NEVER_SENT)
            raise Interrupted(said, may_be_committed=not never_sent)
        raise StorageUnavailable(
            f"The gRPC server at {self.address} cannot do it ({status.name}): {said}. "
            "Look into the server's log; what was told before is safe."
        )

    return repeated(call, harmless=harmless)


def _said(error: Any) -> str:
    details = str(error.details() or "it gives no reason").strip()
    return details.partition("\n")[0].rstrip(".")


def _constraints(trial: Any) -> dict[str, Any]:
    """Return the system attributes that hold the constraints of a trial as the server sends it."""
    attrs = trial.system_attributes.items()
    return {key: json.loads(text) for key, text in attrs if key.startswith(CONSTRAINTS)}


@final
class GrpcStorage(FinishesAgain, GrpcStorageProxy):
    """An ``optuna.storages.GrpcStorageProxy`` that waits for its server while that is restarted.

    As with a database on a server, what may run twice does so, and of what may not the caller
    learns that its outcome is unknown.
    """

    @property
    def address(self) -> str:
        """Host and port of the server."""
        return f"{self._host}:{self._port}"

    def _setup(self) -> None:
        self._channel = grpc.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        self._stub = StorageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._cache = GrpcClientCache(self._stub)

    def _held_trials(self, study_id: int) -> HeldTrials:
        """Return a study's trials as Optuna's cache holds them, once it has asked what is new."""
        cache = self._cache
        with cache.lock:
            cache._read_trials_from_remote_storage(study_id)
            by_number = cache.studies[study_id].trials
        return HeldTrials(by_number, len(by_number), by_number.__getitem__)

    held_trials = _called(_held_trials)

    def _glance(self, study_id: int) -> Glance:
        """Look at a study.

        Optuna's server counts nothing: it is asked for all trials. They are not built here, which
        is what takes most of this process's time.

        Raises:
            KeyError: If there is no such study.
        """
        (*others, direction) = self.get_study_directions(study_id)
        request = api_pb2.GetTrialsRequest(study_id=study_id, trial_id_greater_than=-1)
        trials = sorted(self._stub.GetTrials(request).trials, key=lambda trial: int(trial.number))
        n_by_state = Counter(_from_proto_trial_state(trial.state) for trial in trials)
        values = [
            (trial.number, trial.values[0])
            for trial in trials
            if trial.state == api_pb2.COMPLETE and not violates(_constraints(trial))
        ]
        sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        best = None if others else min(values, key=lambda pair: sign * pair[1], default=None)
        running = [_from_proto_trial(t) for t in trials if t.state == api_pb2.RUNNING]
        return Glance(n_by_state, best, running)

    glance = _called(_glance)

    create_new_study = _called(GrpcStorageProxy.create_new_study, harmless=False)
    delete_study = _called(GrpcStorageProxy.delete_study, harmless=False)
    create_new_trial = _called(GrpcStorageProxy.create_new_trial, harmless=False)
    _set_trial_state_values = _called(GrpcStorageProxy.set_trial_state_values, harmless=False)

    set_study_system_attr = _called(GrpcStorageProxy.set_study_system_attr)
    set_study_user_attr = _called(GrpcStorageProxy.set_study_user_attr)
    set_trial_intermediate_value = _called(GrpcStorageProxy.set_trial_intermediate_value)
    set_trial_param = _called(GrpcStorageProxy.set_trial_param)
    set_trial_system_attr = _called(GrpcStorageProxy.set_trial_system_attr)
    set_trial_user_attr = _called(GrpcStorageProxy.set_trial_user_attr)

    get_all_studies = _called(GrpcStorageProxy.get_all_studies)
    get_all_trials = _called(GrpcStorageProxy.get_all_trials)
    get_study_directions = _called(GrpcStorageProxy.get_study_directions)
    get_study_id_from_name = _called(GrpcStorageProxy.get_study_id_from_name)
    get_study_name_from_id = _called(GrpcStorageProxy.get_study_name_from_id)
    get_study_system_attrs = _called(GrpcStorageProxy.get_study_system_attrs)
    get_study_user_attrs = _called(GrpcStorageProxy.get_study_user_attrs)
    get_trial = _called(GrpcStorageProxy.get_trial)
    get_trial_id_from_study_id_trial_number = _called(
        GrpcStorageProxy.get_trial_id_from_study_id_trial_number
    )
