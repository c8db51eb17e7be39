"""K trainings of one architecture as one: weights (K, ...) and one step for all members."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from hpolab.torch.batches import values_of
from hpolab.torch.fused.architecture import TrainsAlone, groups_of, split_model
from hpolab.torch.fused.dropout import Masks
from hpolab.torch.fused.recording import Recorder, tape_of
from hpolab.torch.fused.rules import RULES, Steps, rule_of
from hpolab.torch.losses import LOSSES
from hpolab.torch.metrics import METRICS, has_diverged, read_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpolab.torch.batches import Targets
    from hpolab.torch.data import ArraySplit
    from hpolab.torch.fused.architecture import Architecture
    from hpolab.torch.fused.first_steps import FirstSteps
    from hpolab.torch.fused.member import Member
    from hpolab.torch.training import TorchTask

    Named = dict[str, Tensor]

__all__ = ["Stack"]

# The largest number of mask elements at once: 64 MiB in float32.
_MASK_NUMBERS = 2**24

# Those whose control flow does not depend on values, as a count of classes does.
_STACKED_METRICS = (
    *(METRICS[name].function for name in ("accuracy", "r2", "mse", "rmse", "mae")),
    *LOSSES.values(),
)


class Stack:
    """Members that train side by side, each in a slot of its own.

    All members have the same architecture, data and batch size. Their optimizers, settings,
    schedules, dropout rates, seeds and epochs may differ. After an epoch a member is what it would
    be if it trained alone, up to rounding: its rows come in its own order, its masks from its own
    random state, and nothing is summed over members.

    Attributes:
        size: The number of slots.
        compiled: Whether steps are compiled.
        members: The member in each slot, None if the slot is free.
        is_new: Whether the stack has trained no epoch yet.
        strangers: Of the last epoch, why members did not train as they do alone, by slot. They are
            as they were before it, but for their random states.

    Args:
        architecture: The members' architecture.
        members: The first members, one per slot, each with the steps that `put` takes.
        size: The number of slots; None for one per member.
        compiled: Whether to compile steps by ``torch.compile``. On a CPU this makes them much
            faster, but it first takes some ten seconds per batch shape.
    """

    def __init__(
        self,
        architecture: Architecture,
        members: Sequence[tuple[Member, FirstSteps | None]],
        *,
        size: int | None = None,
        compiled: bool = False,
    ) -> None:
        first, _ = members[0]
        self.size = len(members) if size is None else size
        self.compiled = compiled
        self.is_new = True
        self.members: list[Member | None] = [None] * self.size
        self.strangers: dict[int, str] = {}
        self._to_check: dict[int, FirstSteps] = {}
        self._architecture = architecture
        self._task = architecture.task
        weights, buffers = split_model(first.training.model)
        self._weights = {name: _stacked(part, self.size) for name, part in weights.items()}
        self._buffers = {name: _stacked(part, self.size) for name, part in buffers.items()}
        # Steps write these in place; recordings rely on their never being replaced.
        self._parts = self._weights | self._buffers
        self._best = {name: part.clone() for name, part in self._parts.items()}
        self._states: dict[str, Named] = {name: {} for name in weights}
        self._groups = groups_of(first.training)
        clips = first.training.options.max_grad_norm is not None
        self._max_norms = next(iter(self._weights.values())).new_ones(self.size) if clips else None
        tape = tape_of(self._task.device)
        self._recorder = None if tape is None else Recorder(tape)
        for slot, (member, steps) in enumerate(members):
            self.put(slot, member, steps)

    @property
    def n_members(self) -> int:
        """The number of slots that are taken."""
        return sum(member is not None for member in self.members)

    @torch.no_grad()
    def put(self, slot: int, member: Member, first_steps: FirstSteps | None = None) -> None:
        """Let a member's training continue in a slot.

        Args:
            slot: The slot.
            member: The member.
            first_steps: Its next steps alone, to which those in the stack are held.
        """
        if first_steps is not None:
            self._to_check[slot] = first_steps
        model, optimizer = member.training.model, member.training.state.optimizer
        weights, buffers = split_model(model)
        best = member.training.state.best
        for name, part in (weights | buffers).items():
            self._parts[name][slot] = part
            self._best[name][slot] = best.get(name, part)
        max_norm = member.training.options.max_grad_norm
        if self._max_norms is not None and max_norm is not None:
            self._max_norms[slot] = max_norm
        rule = RULES[_rule_of(member)]
        for name, weight in weights.items():
            initial = rule.initial(optimizer.param_groups[self._groups[name]])
            kept = optimizer.state.get(weight, {})
            for state, shape in rule.state_shapes(tuple(weight.shape)).items():
                if state not in self._states[name]:
                    self._states[name][state] = weight.new_zeros((self.size, *shape))
                self._states[name][state][slot] = kept.get(state, initial.get(state, 0.0))
        self.members[slot] = member

    @torch.no_grad()
    def take_out(self, slot: int) -> None:
        """Copy what the stack holds of a member into its training; it stays in its slot."""
        member = self.members[slot]
        assert member is not None
        training = member.training
        weights, buffers = split_model(training.model)
        if member.reporter.best_step is not None:
            self.take_best_out(slot)
        for name, part in (weights | buffers).items():
            part.copy_(self._parts[name][slot])
        n_steps = _n_steps_of(member)
        if n_steps == 0:
            return
        rule = RULES[_rule_of(member)]
        optimizer = training.state.optimizer
        for name, weight in weights.items():
            scalars = rule.scalars(_steps_of(member, self._groups[name], n_steps - 1, 1))
            kept = optimizer.state[weight]
            if type(optimizer) is not torch.optim.SGD:  # SGD does not count steps
                kept["step"] = torch.tensor(float(n_steps))
            kept.update({key: torch.tensor(value) for key, value in scalars.items()})
            for state in rule.state_shapes(tuple(weight.shape)):
                kept[state] = self._states[name][state][slot].clone()

    @torch.no_grad()
    def take_best_out(self, slot: int) -> None:
        """Load a member's model of its best epoch, and keep it as the training's best."""
        member = self.members[slot]
        assert member is not None
        weights, buffers = split_model(member.training.model)
        for name, part in (weights | buffers).items():
            part.copy_(self._best[name][slot])
        member.training.keep_best()

    def keep_best(self, slot: int) -> None:
        """Keep a member's present weights as its best."""
        for name, part in self._parts.items():
            self._best[name][slot] = part[slot]

    def remove(self, slot: int) -> None:
        """Free a slot."""
        self.members[slot] = None
        self._to_check.pop(slot, None)

    def epoch(self, n_batches: int | None = None) -> None:
        """Train all members for one epoch.

        Args:
            n_batches: Train on only the first ``n_batches`` batches, to measure their time.

        Raises:
            TrainsAlone: If the model or the loss keeps state that is not one member's.
        """
        self.strangers = {}
        train = self._architecture.train
        orders = self._draw_orders(train)
        bounds = train.bounds(self._architecture.batch_size)[:n_batches]
        rules = self._rules(len(bounds))
        step = self._architecture.step(compiled=self.compiled, mixed=len(rules) > 1)
        step = partial(step, self._weights, self._buffers, self._states, self._max_norms)
        if self._recorder is not None:
            step = partial(self._recorder, step)
        for chunk in self._chunks(bounds):
            masks = self._draw_masks(chunk)
            for place, (number, start, stop) in enumerate(chunk):
                step(
                    orders[:, start:stop],
                    masks.of_step(place),
                    [(name, slots, c[:, :, number]) for name, slots, c in rules],
                )
                self._check(number + 1)
        self._check_state()
        for slot, member in enumerate(self.members):
            if member is not None and slot not in self.strangers:
                _advance(member, len(bounds))
        self.is_new = False

    def values(self) -> list[float | Exception]:
        """Return each slot's metric on `valid`, or the error of reading it, K values."""
        batches = [
            (self._architecture.outputs(self._weights, self._buffers, inputs), targets)
            for inputs, targets in self._task.valid.batches(self._task.eval_batch_size)
        ]
        found = _stacked_metric(self._task, batches)
        if found is not None:
            return found
        return [
            math.nan
            if member is None
            else _metric(self._task, [(outputs[slot], targets) for outputs, targets in batches])
            for slot, member in enumerate(self.members)
        ]

    def _check(self, n_steps: int) -> None:
        """Hold members that are new here to their own first steps, after ``n_steps``."""
        if self._to_check:
            self._check_state()
        for slot, steps in list(self._to_check.items()):
            name = steps.difference(n_steps, {key: part[slot] for key, part in self._parts.items()})
            if name is not None:
                self.strangers[slot] = f"its {name!r} trains differently in a stack"
            elif n_steps == steps.n_steps and (member := self.members[slot]) is not None:
                member.is_proven = True
            if name is not None or n_steps == steps.n_steps:
                del self._to_check[slot]

    def _check_state(self) -> None:
        changed = self._architecture.changed_state()
        if changed is not None:
            raise TrainsAlone(f"its {changed!r} changes while it trains")

    def _draw_orders(self, train: ArraySplit) -> Tensor:
        """Return the order of the rows in each slot's epoch, (K, n)."""
        n = len(train.targets)
        orders = torch.zeros((self.size, n), dtype=torch.int64)
        for slot, member in enumerate(self.members):
            if member is not None:
                orders[slot] = torch.randperm(n, generator=member.training.state.generators[0])
        return orders.to(self._task.device)

    def _rules(self, n_steps: int) -> list[tuple[str, Tensor | None, Tensor]]:
        """Return each rule of the next steps with its slots and coefficients.

        Returns:
            For each rule its name and those of its coefficients, as in "adam:eps,lr"; its slots,
            or None if it is the only rule; and its coefficients (parameter groups, names, steps,
            slots).
        """
        slots = defaultdict(list)
        for slot, member in enumerate(self.members):
            if member is not None:
                slots[_rule_of(member)].append(slot)
        return [
            self._coefficients(name, range(self.size) if len(slots) == 1 else of_rule, n_steps)
            for name, of_rule in slots.items()
        ]

    def _coefficients(
        self, rule: str, slots: Sequence[int], n_steps: int
    ) -> tuple[str, Tensor | None, Tensor]:
        n_groups = 1 + max(self._groups.values())
        found = {
            (group, place): RULES[rule].coefficients(
                _steps_of(member, group, _n_steps_of(member), n_steps)
            )
            for place, slot in enumerate(slots)
            if (member := self.members[slot]) is not None
            for group in range(n_groups)
        }
        names = sorted({name for each in found.values() for name in each})
        # Free slots train nothing; coefficients of 1 keep away denormal numbers, which are slow.
        table = np.ones((n_groups, len(names), n_steps, len(slots)))
        for (group, place), each in found.items():
            for row, name in enumerate(names):
                table[group, row, :, place] = each.get(name, 0.0)
        weight = next(iter(self._weights.values()))
        rows = None if len(slots) == self.size else torch.tensor(slots, device=weight.device)
        coefficients = torch.as_tensor(table, dtype=weight.dtype).to(weight.device)
        return f"{rule}:{','.join(names)}", rows, coefficients

    def _chunks(self, bounds: Sequence[tuple[int, int]]) -> list[list[tuple[int, int, int]]]:
        """Return the batches (number, start, stop) in runs of equal size whose masks fit."""
        chunks: list[list[tuple[int, int, int]]] = []
        for number, (start, stop) in enumerate(bounds):
            calls = self._architecture.dropouts(stop - start)
            n_numbers = sum(call.n_numbers for call in calls) * self.size
            longest = max(1, _MASK_NUMBERS // max(1, n_numbers))
            last = chunks[-1] if chunks else None
            if last and len(last) < longest and last[0][2] - last[0][1] == stop - start:
                last.append((number, start, stop))
            else:
                chunks.append([(number, start, stop)])
        return chunks

    def _draw_masks(self, chunk: Sequence[tuple[int, int, int]]) -> Masks:
        weight = next(iter(self._weights.values()))
        dropouts = self._architecture.dropouts(chunk[0][2] - chunk[0][1])
        return Masks.draw(self.members, dropouts, len(chunk), weight.dtype, weight.device)


def _stacked_metric(
    task: TorchTask, batches: Sequence[tuple[Tensor, Targets]]
) -> list[float | Exception] | None:
    """Return each member's metric by vmap, or None if it is not known to allow that.

    A user's own metric may catch an error of vmap, work in place or keep state.
    """
    metric = task.metrics[task.metric].function
    shapes = {outputs.shape[2:] for outputs, _ in batches}
    if metric not in _STACKED_METRICS or task.valid.is_weighted or len(shapes) > 1:
        return None
    outputs = torch.cat([outputs for outputs, _ in batches], 1)
    targets = torch.cat([values_of(targets) for _, targets in batches])
    found = vmap(lambda each: torch.as_tensor(metric(each, targets)))(outputs)
    return [
        math.nan if has_diverged(each) else float(value)
        for each, value in zip(outputs, found, strict=True)
    ]


def _metric(task: TorchTask, batches: list[tuple[Tensor, Targets]]) -> float | Exception:
    try:
        return read_metrics(task.steering, *task.gathered(batches, task.steering))[task.metric]
    except Exception as error:  # noqa: BLE001 - it is this member's alone
        return error


def _stacked(part: Tensor, size: int) -> Tensor:
    return part.detach().unsqueeze(0).repeat(size, *[1] * part.ndim)


def _rule_of(member: Member) -> str:
    rule = rule_of(member.training.params)
    assert rule is not None, "a trial without a rule trains alone"
    return rule


def _n_steps_of(member: Member) -> int:
    """Return the number of steps that a member has made."""
    return member.training.state.schedule.last_epoch


def _steps_of(member: Member, group: int, n_before: int, n_steps: int) -> Steps:
    """Return the ``n_steps`` steps of a parameter group that follow its first ``n_before``."""
    schedule = member.training.state.schedule
    factor = schedule.lr_lambdas[group]  # type: ignore[attr-defined]
    base = schedule.base_lrs[group]
    before = max(0, n_before - 1)
    lr = np.array([base * factor(step) for step in range(before, n_before + n_steps)])
    return Steps(
        settings=member.training.state.optimizer.param_groups[group],
        t=np.arange(n_before + 1.0, n_before + n_steps + 1),
        lr=lr[n_before - before :],
        lr_before=lr[: len(lr) - 1] if n_before else np.r_[lr[:1], lr[:-1]],
    )


def _advance(member: Member, n_steps: int) -> None:
    """Advance a member's schedule by some steps, and its optimizer's learning rate with it."""
    schedule, optimizer = member.training.state.schedule, member.training.state.optimizer
    n_done = schedule.last_epoch + n_steps
    rates = [
        base * factor(n_done)
        for base, factor in zip(
            schedule.base_lrs,
            schedule.lr_lambdas,  # type: ignore[attr-defined]
            strict=True,
        )
    ]
    schedule.load_state_dict(
        schedule.state_dict() | {"last_epoch": n_done, "_step_count": n_done + 1, "_last_lr": rates}
    )
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
