"""Trainings that go step by step: what is reported, kept, brought back and resumed."""

from __future__ import annotations

import json

import pytest

from hpolab import Diverged, Reporter
from hpolab.objectives.epochs import state_of, train_epochs, train_steps


class Counter:
    """A model that is the number of its epochs, and diverges in one of them if it is told to."""

    def __init__(self, diverges_at: int | None = None) -> None:
        self.model, self.best = 0, 0
        self.diverges_at = diverges_at

    def epoch(self) -> None:
        if self.model == self.diverges_at:
            raise Diverged("no more")
        self.model += 1

    def keep_best(self) -> None:
        self.best = self.model

    def load_best(self) -> None:
        self.model = self.best

    def to_bytes(self) -> bytes:
        return json.dumps([self.model, self.best]).encode()

    def from_bytes(self, state: bytes) -> None:
        self.model, self.best = json.loads(state)


def reporter(**options: float) -> Reporter:
    return Reporter(None, direction="minimize", **options)


@pytest.mark.parametrize(
    ("target", "patience", "n_epochs"), [(2, None, 5), (5, None, 5), (2, 1, 3)]
)
def test_the_model_left_is_that_of_the_best_epoch(target, patience, n_epochs):
    training, seen = Counter(), []

    def distance() -> float:
        seen.append(training.model)
        return abs(training.model - target)

    reported = reporter(patience=patience)
    train_epochs(training, reported, 5, distance)
    assert seen == list(range(1, n_epochs + 1))
    assert training.model == target == reported.best_step + 1


def test_an_epoch_that_diverges_says_which_it_was():
    with pytest.raises(Diverged, match="in epoch 2") as raised:
        train_epochs(Counter(diverges_at=2), reporter(), 5, lambda: 1.0)
    assert str(raised.value.__cause__) == "no more"


def test_only_the_best_steps_are_kept():
    values, kept = [3.0, 4.0, 1.0, 2.0], []

    def keep(step: int) -> str:
        kept.append(step)
        return f"step {step}"

    assert train_steps(reporter(), 4, lambda step: values[step], keep) == "step 2"
    assert kept == [0, 2]


def test_state_in_a_checkpoint_holds_the_epoch_just_reported_where_it_is_the_best():
    training, reported = Counter(), reporter()
    state = state_of(training, reported)
    states = []
    for step, value in enumerate([2.0, 1.0, 3.0]):
        training.epoch()
        reported.report(value, step)
        states.append(json.loads(state()))
    assert states == [[1, 1], [2, 2], [3, 2]]
