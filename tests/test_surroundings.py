"""What a function reads and calls from outside, and what an object holds."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hpolab.surroundings import called_code, captured_settings, held_values


@dataclass(frozen=True)
class Layers:
    width: int = 4
    names: list[str] = field(default_factory=list)


class Built:
    def __init__(self, width: int) -> None:
        self.width, self.n_calls = width, 0

    def __call__(self, x: float) -> float:
        self.n_calls += 1
        return x * self.width

    def build(self, x: float) -> float:
        return x * self.width


def reads(value: Any) -> Any:
    return lambda x: (x, value)


def with_default(value: Any) -> Any:
    return lambda x, other=value: (x, other)


def scaled(x: float, by: float) -> float:
    return x * by


PAIRS = [
    (4, 64),
    (0.1, 0.2),
    ("relu", "gelu"),
    (None, 1),
    (np.array(1.0), np.array(2.0)),
    (torch.tensor(1.0), torch.tensor(2.0)),
    ((1, 2), (1, 3)),
    ([1, 2], [2, 1]),
    ({"width": 4}, {"width": 64}),
    (Layers(4), Layers(64)),
    (SimpleNamespace(width=4), SimpleNamespace(width=64)),
    (argparse.Namespace(width=4), argparse.Namespace(width=64)),
    ({"layers": Layers(4)}, {"layers": Layers(5)}),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.parametrize("make", [reads, with_default, lambda each: partial(scaled, by=each)])
def test_settings_that_a_function_reads_are_told_apart(make, one, other):
    assert captured_settings(make(one)) == captured_settings(make(one))
    assert captured_settings(make(one)) != captured_settings(make(other))


def test_settings_of_objects_that_are_called_are_told_apart():
    for method in (lambda each: each, lambda each: each.build):
        assert captured_settings(method(Built(4))) == captured_settings(method(Built(4)))
        assert captured_settings(method(Built(4))) != captured_settings(method(Built(64)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/tmp/one/data", "/home/two/data"),
        ("sqlite:///one.db", "sqlite:///two.db"),
        ({"n_trials": 10, "width": 4}, {"n_trials": 20, "width": 4}),
        (SimpleNamespace(device="cuda", width=4), SimpleNamespace(device="cpu", width=4)),
        (object(), object()),
    ],
)
def test_what_is_of_the_run_or_the_machine_is_no_setting(one, other):
    assert captured_settings(reads(one)) == captured_settings(reads(other))


def test_what_a_function_counts_or_collects_is_no_setting():
    seen: list[int] = []
    n_calls = 0

    def counted(x: int) -> int:
        nonlocal n_calls
        n_calls += 1
        seen.append(x)
        return x

    built = Built(4)
    before = captured_settings(counted), captured_settings(built)
    counted(1)
    built(1)
    assert n_calls == 1
    assert (captured_settings(counted), captured_settings(built)) == before


def module_of(source: str) -> Any:
    """Return the function ``build`` of a module of the user's own."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(source, space)
    return space["build"]


MODULE = """
HIDDEN = {hidden}
def half(x):
    return x / {by}
class Net:
    def __init__(self, width): self.width = half(width)
    def forward(self, x): return x {sign} self.width
def build(params):
    return Net(HIDDEN)
"""


@pytest.mark.parametrize("change", [{"by": 3}, {"sign": "-"}])
def test_code_of_helpers_and_classes_is_told_apart(change):
    usual = {"hidden": 4, "by": 2, "sign": "+"}
    one, same = (module_of(MODULE.format(**usual)) for _ in range(2))
    other = module_of(MODULE.format(**usual | change))
    assert called_code(one) == called_code(same) is not None
    assert called_code(one) != called_code(other)
    assert captured_settings(one) == captured_settings(other)


def test_names_of_a_module_are_settings():
    one, other = (module_of(MODULE.format(hidden=n, by=2, sign="+")) for n in (4, 64))
    assert captured_settings(one) != captured_settings(other)
    assert called_code(one) == called_code(other)


def test_code_that_is_installed_is_not_looked_into():
    assert called_code(lambda x: np.median(pytest.approx(x))) is None


def test_functions_that_call_each_other_come_to_an_end():
    build = module_of("def build(n): return other(n)\ndef other(n): return build(n - 1)")
    assert called_code(build) is not None


class WeightedLoss(torch.nn.Module):
    def __init__(self, weight: float) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (self.weight * (outputs - targets)).mean()


def test_buffers_of_a_module_are_settings():
    assert captured_settings(WeightedLoss(1.0)) == captured_settings(WeightedLoss(1.0))
    assert captured_settings(WeightedLoss(1.0)) != captured_settings(WeightedLoss(2.0))


class Rows:
    def __init__(self, X: Any, scale: float = 1.0) -> None:
        self.X, self.scale, self.epoch = X, scale, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def test_data_that_an_object_was_made_with_is_told_apart():
    X = np.arange(6.0)
    rows = Rows(X)
    before = held_values(rows)
    rows.set_epoch(3)
    assert held_values(rows) == before == held_values(Rows(X.copy()))
    assert held_values(Rows(X * 1000)) != before
    assert held_values(Rows(X, scale=1000)) != before
    assert held_values(Rows(X * 1000), leave_out=["X"]) == held_values(rows, leave_out=["X"])
