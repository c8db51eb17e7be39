"""Steps as CUDA graphs: no CI machine has such a device, so that a stand-in plays them here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from hpolab import OPTIMIZERS, TorchObjective, optimizer_space
from hpolab.torch.fused.architecture import Architecture
from hpolab.torch.fused.first_steps import FirstSteps
from hpolab.torch.fused.member import Member
from hpolab.torch.fused.recording import Recorder
from hpolab.torch.fused.rules import RULES
from hpolab.torch.fused.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

N_ROWS, BATCH_SIZE = 85, 8  # ten batches of eight, and one of five


def rows(n: int, seed: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] > 0).long()


def build(params: dict[str, Any]) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(6, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(8, 2),
    )


def objective_of(names: str | list[str]) -> TorchObjective:
    return TorchObjective(
        build,
        train=rows(N_ROWS, 0),
        valid=rows(20, 1),
        search_space=optimizer_space(names),
        loss="cross_entropy",
        metric="loss",
        batch_size=BATCH_SIZE,
        max_epochs=3,
    )


class Played:
    """A stand-in for a CUDA graph: the operations of a call, on the tensors that it was made with.

    As a graph does, it runs them again without the Python code around, on the same tensors, and
    recording changes nothing. Unlike one it would let through what waits for the device; that is
    tested apart.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.n_warm_ups = self.n_played = 0
        self.recorded: list[Any] = []

    def warm_up(self, call: Callable[[], None]) -> None:
        self.n_warm_ups += 1
        call()

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        written = [*self._stack._parts.values()]
        written += [state for each in self._stack._states.values() for state in each.values()]
        before = [part.clone() for part in written]
        graph = make_fx(call)()
        for part, kept in zip(written, before, strict=True):
            part.copy_(kept)
        self.recorded.append(graph)

        def play() -> None:
            self.n_played += 1
            graph()

        return play


def stack_of(objective: TorchObjective, params: list[dict[str, Any]]) -> Stack:
    members = [Member.outside(objective, each, seed) for seed, each in enumerate(params)]
    architecture = Architecture(members[0].training)
    return Stack(architecture, [(each, FirstSteps(architecture, each)) for each in members])


def params_of(objective: TorchObjective, name: str) -> dict[str, Any]:
    return {**objective.search_space.defaults(), **optimizer_space(name).defaults()}


@pytest.mark.parametrize("names", [["adam"] * 3, ["adam", "sgd", "adadelta"]], ids=["one", "mixed"])
def test_played_steps_are_those_made_anew(names):
    objective = objective_of(sorted(set(names)) if len(set(names)) > 1 else names[0])
    params = [{**params_of(objective, name), "optimizer": name} for name in names]
    plain, played = stack_of(objective, params), stack_of(objective, params)
    tape = Played(played)
    played._recorder = Recorder(tape)
    for _ in range(4):
        plain.epoch()
        played.epoch()
        assert plain.values() == played.values()
    # Of each length of a batch three calls are plain, then all are played.
    assert tape.n_warm_ups == 6
    assert tape.n_played == 4 * 11 - 6
    assert len(tape.recorded) == 2


def test_a_new_member_in_a_slot_is_played_on_by_the_same_recording():
    objective = objective_of("adam")
    params = [objective.search_space.defaults()] * 2
    plain, played = stack_of(objective, params), stack_of(objective, params)
    tape = Played(played)
    played._recorder = Recorder(tape)
    for epoch in range(4):
        if epoch == 2:
            for stack in (plain, played):
                faster = Member.outside(objective, {**params[0], "lr": 0.03}, 7)
                stack.remove(1)
                stack.put(1, faster, FirstSteps(Architecture(faster.training), faster))
        plain.epoch()
        played.epoch()
        assert plain.values() == played.values()
    assert len(tape.recorded) == 2


def test_a_step_that_cannot_be_recorded_is_made_anew_each_time(caplog):
    class Refusing(Played):
        def record(self, call: Callable[[], None]) -> Callable[[], None]:
            raise RuntimeError("operation not permitted when stream is capturing")

    objective = objective_of("adam")
    params = [objective.search_space.defaults()] * 2
    plain, refused = stack_of(objective, params), stack_of(objective, params)
    refused._recorder = Recorder(Refusing(refused))
    with caplog.at_level(logging.WARNING, logger="hpolab"):
        for _ in range(4):
            plain.epoch()
            refused.epoch()
    assert plain.values() == refused.values()
    assert caplog.text.count("stream is capturing") == 1


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name in RULES])
def test_nothing_in_a_step_reads_a_number_or_mixes_devices(name):
    # Tensors of the device "meta" have no numbers: what needs one raises, as a recording would.
    def to_meta(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part.to("meta")
        if isinstance(part, dict):
            return {key: to_meta(each) for key, each in part.items()}
        return type(part)(map(to_meta, part)) if isinstance(part, tuple | list) else part

    objective = objective_of(name)
    stack = stack_of(objective, [params_of(objective, name)] * 2)
    (rule, _, numbers), *_ = stack._rules(1)
    masks = stack._draw_masks([(0, 0, BATCH_SIZE)]).of_step(0)
    architecture = stack._architecture
    architecture._template.to("meta")
    architecture.train.inputs = architecture.train.inputs.to("meta")
    architecture.train.targets = architecture.train.targets.to("meta")
    step = architecture.step(compiled=False, mixed=False)
    slots = torch.tensor([0, 1])
    for of_rule in (None, slots):
        step(
            *to_meta((stack._weights, stack._buffers, stack._states)),
            to_meta(torch.ones(2)),
            to_meta(torch.zeros((2, BATCH_SIZE), dtype=torch.int64)),
            to_meta(masks),
            [(rule, to_meta(of_rule), to_meta(numbers[:, :, 0]))],
        )
