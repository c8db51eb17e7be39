"""The workers of a study on Ray as the process sees them that calls `run`: it only watches."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab import _optuna
from hpolab.errors import RecipeMismatch, WorkersDied
from hpolab.logs import get_logger
from hpolab.running.carrying import Relay
from hpolab.running.interpreter import pack
from hpolab.running.on_ray.keeper import Bundle, Keeper, worker_name
from hpolab.running.on_ray.worker import Worker
from hpolab.running.outcome import say_whom_it_waits_for
from hpolab.running.worker import SILENT_SECONDS
from hpolab.studies.history import history_of
from hpolab.trial.lease import is_spent

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Mapping

    from optuna import Study

    from hpolab.running.interrupts import Interrupts
    from hpolab.running.on_ray.keeper import Seen
    from hpolab.running.plan import ObjectiveFunction, Plan

__all__ = ["RayCrew"]

_logger = get_logger(__name__)

_KEEPER = "keeper"
_POLL_SECONDS = 0.2
_ANSWER_SECONDS = 60.0

# How long workers may take to requeue their trials, and their actors to end.
_STOP_SECONDS = 30.0
_STOP_SECONDS_WITHOUT_TRIALS = 5.0
_END_SECONDS = 15.0

# Arrays from this size on are shared by the workers of a node; smaller ones are sent with the rest.
_SHARED_BYTES = 1 << 16

# The one resource that the head node has alone.
_HEAD = {"node:__internal_head__": 0.001}


class RayCrew:
    """Starts a study's workers, or joins those that are there, and watches them.

    Args:
        study: The study.
        plan: The budget and the rules.
        namespace: That of the actors.
        described: What the workers are for, from `describe`.
        options: What Ray is to give each worker.
    """

    def __init__(
        self,
        study: Study,
        plan: Plan,
        namespace: str,
        described: Mapping[str, str],
        options: Mapping[str, Any],
    ) -> None:
        self._study = study
        self._plan = plan
        self._namespace = namespace
        self._described = described
        self._options = options
        self._n_workers = int(described["n_workers"])
        self._relay = Relay()
        self._position = 0
        self._said: set[int] = set()
        self._n_finished = -1
        self._raised = ""
        self._bundle: Bundle | None = None
        self._has_joined = False

    def start(self, objective: ObjectiveFunction) -> None:
        """Start the workers that are not there yet.

        Raises:
            InvalidType: If study, objective or callbacks cannot be sent.
            RecipeMismatch: If the study has workers that do something else.
        """
        import ray

        self._bundle = self._bundled(objective)
        deadline = time.monotonic() + _END_SECONDS
        while True:
            try:
                if self._start():
                    return
            except ray.exceptions.RayActorError:
                # It is one that has just ended its work, and frees its name in a moment.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    def _start(self) -> bool:
        """Start what is missing; return False if others had to be ended for it."""
        import ray

        self._keeper = (
            ray.remote(Keeper)
            .options(
                **self._detached(_KEEPER),
                num_cpus=0,
                resources=_HEAD,
                max_concurrency=10_000,
            )
            .remote(self._namespace)
        )
        found, is_watched = self._ask("described")
        if found is not None and found != self._described:
            self._replace(found, is_watched)
            return False
        if found is None:
            kept = self._ask("offer", self._bundle)
            if kept != self._described:
                self._refuse(kept)
        else:
            _logger.info(
                f"Study {self._study.study_name!r} has {found['n_workers']} workers on Ray "
                "already; this run goes on with them."
            )
        self._has_joined = True
        ended = self._look().ends
        for index in range(self._n_workers):
            if index not in ended:
                (
                    ray.remote(Worker)
                    .options(**self._detached(worker_name(index)), **self._options)
                    .remote(index, _KEEPER, self._namespace, self._options["num_gpus"])
                )
        return True

    def _detached(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "namespace": self._namespace,
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,
            # The storage owns trials, not Ray: nothing is done twice.
            "max_task_retries": 0,
        }

    def _bundled(self, objective: ObjectiveFunction) -> Bundle:
        buffers: list[Any] = []

        def aside(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < _SHARED_BYTES:
                return True
            buffers.append(np.frombuffer(raw, np.uint8))
            return False

        packed = pack(self._study, objective, self._plan, aside)
        folder = "" if "working_dir" in self._options["runtime_env"] else os.getcwd()
        path = [entry for entry in map(str, sys.path) if os.path.isabs(entry)]
        return Bundle(self._described, packed, buffers, self._plan.timeout_seconds, folder, path)

    def _replace(self, found: Mapping[str, str], is_watched: bool) -> None:
        """End workers that an earlier run has left behind and that do something else."""
        if is_watched or found["objective"] != self._described["objective"]:
            self._refuse(found)
        differing = self._differing(found)
        _logger.warning(
            f"Study {self._study.study_name!r} has workers on Ray that an earlier run left behind. "
            f"They are replaced, as they differ from what is asked for now: {differing}."
        )
        self._n_workers, asked = int(found["n_workers"]), self._n_workers
        self._end_all()
        self._n_workers = asked

    def _differing(self, found: Mapping[str, str]) -> str:
        return ", ".join(
            f"{name} (theirs {value}, asked for {self._described.get(name)})"
            for name, value in found.items()
            if self._described.get(name) != value
        )

    def _refuse(self, found: Mapping[str, str]) -> None:
        raise RecipeMismatch(
            f"Study {self._study.study_name!r} has workers on Ray that another run has started, "
            f"and that do something else: {self._differing(found)}.",
            " Give the same, or end the other run first: Ctrl-C requeues its trials, and "
            f"`ray.kill` ends actors of the namespace {self._namespace!r}.",
        )

    def watch(self, interrupts: Interrupts, after_trial: Callable[[], None]) -> None:
        """Return when all workers have ended, or a signal has come.

        Raises:
            WorkersDied: If they die over and over, or were ended from elsewhere.
            Exception: What one has raised.
        """
        changed = time.monotonic()
        n_begun = 0
        has_said_so = False
        while interrupts.pressed is None:
            interrupts.sleep(_POLL_SECONDS)
            seen = self._seen()
            if seen is None:
                return
            known = history_of(self._study)
            if known.tally.finished != self._n_finished or seen.n_begun != n_begun:
                self._n_finished, n_begun = known.tally.finished, seen.n_begun
                changed, has_said_so = time.monotonic(), False
                after_trial()
            elif time.monotonic() - changed >= SILENT_SECONDS and not has_said_so:
                has_said_so = True
                self._say_whom_it_waits_for(seen)
            self._raise_errors(seen)
            if not seen.n_left or (_any_done(seen) and self._is_spent()):
                return

    def _seen(self) -> Seen | None:
        """Return what is new; None if the workers have ended with the keeper."""
        import ray

        try:
            seen = self._look()
            if seen.is_empty and self._bundle is not None:
                # Its process died, and it knows of no workers. Those that are in training give it
                # back the same.
                self._ask("offer", self._bundle)
                seen = self._look()
            return seen
        except (ray.exceptions.ActorUnavailableError, ray.exceptions.GetTimeoutError):
            return self._seen_again()
        except ray.exceptions.RayActorError:
            if self._is_spent():
                return None
            raise WorkersDied(
                f"The workers of study {self._study.study_name!r} were ended from elsewhere. Start "
                "it again to resume."
            ) from None

    def _is_spent(self) -> bool:
        """Tell whether no trial is left: a worker that waits for a place has nothing to do."""
        plan = self._plan
        return is_spent(
            self._study, plan.n_trials, asked=plan.asked, only_enqueued=plan.only_enqueued
        )

    def _seen_again(self) -> Seen | None:
        time.sleep(1.0)
        return self._seen()

    def _look(self) -> Seen:
        seen: Seen = self._ask("look", self._position)
        for line in seen.lines:
            self._relay.log(*line)
        self._position = seen.position
        if seen.stopped:
            _optuna.request_stop(self._study)
        return seen

    def _raise_errors(self, seen: Seen) -> None:
        for end in seen.ends.values():
            if end.word == "error" and end.error is not None and not end.error.while_stopping:
                self._raised = end.error.kind
                raise end.error.again()
        unable = {index: end for index, end in seen.ends.items() if end.word == "unable"}
        for index, end in unable.items():
            if index not in self._said and end.error is not None:
                self._said.add(index)
                _logger.warning(f"A worker on {end.who} cannot work: {end.error.said}")
        if unable and not seen.n_left and len(unable) == len(seen.ends):
            end = next(iter(unable.values()))
            assert end.error is not None
            error = end.error.again()
            error.add_note(f"from the worker on {end.who}")
            raise error
        if seen.n_deaths:
            raise WorkersDied(
                f"Workers on Ray died {seen.n_deaths} times in a row without finishing a trial. "
                "Ray's logs on their nodes say how (`ray logs`)."
            )

    def _say_whom_it_waits_for(self, seen: Seen) -> None:
        n_waiting = self._n_workers - seen.n_begun
        if n_waiting > 0:
            _logger.warning(
                f"{n_waiting} of {self._n_workers} workers of study {self._study.study_name!r} "
                "wait for a place on the Ray cluster; `ray status` shows who has it."
            )
        else:
            say_whom_it_waits_for(self._study, self._plan.n_trials)

    def end(self) -> None:
        """Let workers requeue their trials; leave none, and no actor.

        Workers of a run that this one has not joined are left alone.
        """
        import ray

        if not self._has_joined:
            return
        try:
            self._end_all()
        except ray.exceptions.RayError as error:
            _logger.warning(f"The workers on Ray could not be ended: {error}")

    def _end_all(self) -> None:
        import ray

        seen = None
        try:
            self._ask("tell", "requeue")
            patience = _STOP_SECONDS_WITHOUT_TRIALS if self._is_spent() else _STOP_SECONDS
            deadline = time.monotonic() + patience
            while True:
                seen = self._look()
                if not seen.n_left or time.monotonic() > deadline or not self._any_begun(seen):
                    break
                time.sleep(0.05)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            pass  # it is gone, and what is left is killed
        if seen is not None:
            self._say_other_errors(seen)
        self._kill_all()

    def _any_begun(self, seen: Seen) -> bool:
        """Tell whether any worker is left that has begun; the others have nothing to requeue."""
        return seen.n_begun > len(seen.ends)

    def _say_other_errors(self, seen: Seen) -> None:
        for end in seen.ends.values():
            # What another has raised may have come to this one, too, as it was told to stop.
            if end.word != "error" or end.error is None or end.error.kind == self._raised:
                continue
            if end.error.while_stopping:
                _logger.warning(
                    f"A worker could not requeue its trial ({end.error.brief}); the trial resumes "
                    "when the study does."
                )
            else:
                _logger.warning(f"Another worker ended by an error, too: {end.error.brief}")

    def _kill_all(self) -> None:
        """Kill what is left, and wait until the names are free."""
        import ray

        deadline = time.monotonic() + _END_SECONDS
        names = [*map(worker_name, range(self._n_workers)), _KEEPER]
        killed: set[str] = set()
        while names and time.monotonic() < deadline:
            for name in list(names):
                try:
                    actor = ray.get_actor(name, namespace=self._namespace)
                except ValueError:
                    names.remove(name)
                    continue
                if name not in killed:
                    killed.add(name)
                    ray.kill(actor)
            if names:
                time.sleep(0.05)

    def _ask(self, method: str, *args: Any) -> Any:
        import ray

        return ray.get(getattr(self._keeper, method).remote(*args), timeout=_ANSWER_SECONDS)


def _any_done(seen: Seen) -> bool:
    return any(end.word == "done" for end in seen.ends.values())
