"""The state of a training of one's own: a dict comes back as it was, training goes on exactly."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import random
import signal
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch

from hpolab import CheckpointFolder, InvalidType, Reporter, load_study, make_study
from hpolab.trial.checkpoint import Checkpoint, TrialCheckpoints, default_store
from hpolab.trial.packing import pack, unpack


@pytest.fixture
def trial(tmp_path):
    return make_study("s", storage=f"sqlite:///{tmp_path}/s.db").ask()


def restored(trial, state, **objects):
    """What a second life of a trial restores that a first one has reported."""
    Reporter(trial, checkpoint_seconds=0).report(1.0, 0, state=state)
    return Reporter(trial).restore(**objects)


VALUES = {
    "numbers": {"epoch": 3, "rate": 0.1, "done": False, "none": None, "z": 1 + 2j},
    "texts": {"name": "é\0", "raw": b"\x00w", "buffer": bytearray(b"w")},
    "containers": {
        "losses": [1.0, [2.0]],
        "pair": (1, "a"),
        "seen": {1, 2},
        "froze": frozenset("a"),
    },
    "dicts": {"deep": {1: {"a": [{}]}}, "order": OrderedDict(b=1, a=2), "count": Counter("aab")},
    "other keys": {3: "three", ("a", 1): "pair"},
    "empty": {},
}


@pytest.mark.parametrize("made_by", ["itself", "a function"])
@pytest.mark.parametrize("state", VALUES.values(), ids=VALUES.keys())
def test_a_dict_comes_back_as_it_was(trial, state, made_by):
    found = restored(trial, state if made_by == "itself" else lambda: state)
    assert found == state
    assert list(map(type, found.values())) == list(map(type, state.values()))


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.array(["a", "bc"]), np.float32(0.1), np.zeros((0, 3))],
    ids=["matrix", "text", "scalar", "empty"],
)
def test_arrays_come_back_with_their_type(trial, array):
    found = restored(trial, {"array": array})["array"]
    assert type(found) is type(array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_back_with_their_type(trial, dtype):
    tensor = torch.tensor([[0, 1, 1]]).to(dtype)
    found = restored(trial, {"best": {"weight": tensor}})["best"]["weight"]
    assert found.dtype == dtype
    assert torch.equal(found, tensor)


def test_state_is_what_it_was_at_the_report_and_not_what_it_has_become(trial):
    model, losses = torch.nn.Linear(2, 1), [1.0]
    before = copy.deepcopy(model.state_dict())
    first = Reporter(trial, checkpoint_seconds=0)
    first.report(1.0, 0, state={"model": model.state_dict(), "losses": losses})
    losses.append(2.0)
    with torch.no_grad():
        model.weight.zero_()
    found = Reporter(trial).restore()
    assert found["losses"] == [1.0]
    assert torch.equal(found["model"]["weight"], before["weight"])


def optimizers(model):
    return [
        torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
        torch.optim.AdamW(model.parameters(), 0.1, amsgrad=True),
    ]


def schedules(optimizer):
    lr_scheduler = torch.optim.lr_scheduler
    return [
        lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20),
        lr_scheduler.MultiStepLR(optimizer, [2, 4]),
        lr_scheduler.ReduceLROnPlateau(optimizer),
        lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
        lr_scheduler.SequentialLR(
            optimizer,
            [lr_scheduler.LinearLR(optimizer), lr_scheduler.CosineAnnealingLR(optimizer, 5)],
            [3],
        ),
    ]


@pytest.mark.parametrize("which", range(2))
def test_objects_are_loaded_back(trial, which):
    def build():
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
        return model, optimizers(model)[which]

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.ones(4, 3) * torch.arange(4.0)[:, None]).square().sum().backward()
        optimizer.step()

    model, optimizer = build()
    for _ in range(3):
        step(model, optimizer)
    again, optimizer_again = build()
    restored(
        trial, {"model": model, "optimizer": optimizer}, model=again, optimizer=optimizer_again
    )
    step(model, optimizer)
    step(again, optimizer_again)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("which", range(5))
def test_every_kind_of_schedule_is_loaded_back(trial, which):
    def build():
        optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), 0.1, momentum=0.5)
        return optimizer, schedules(optimizer)[which]

    def step(optimizer, schedule):
        optimizer.step()
        schedule.step(*([1.0] if which == 2 else []))

    optimizer, schedule = build()
    step(optimizer, schedule)
    optimizer_again, schedule_again = build()
    state = {"optimizer": optimizer, "schedule": schedule}
    restored(trial, state, optimizer=optimizer_again, schedule=schedule_again)
    for _ in range(4):
        step(optimizer, schedule)
        step(optimizer_again, schedule_again)
        assert optimizer_again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("generator", "draw"),
    [
        (random.Random(3), lambda g: g.random()),
        (np.random.default_rng(3), lambda g: g.random()),
        (np.random.RandomState(3), lambda g: g.rand()),
        (torch.Generator().manual_seed(3), lambda g: torch.rand(1, generator=g).item()),
    ],
    ids=["python", "numpy", "old numpy", "torch"],
)
def test_generators_go_on_where_they_were(trial, generator, draw):
    Reporter(trial, checkpoint_seconds=0).report(1.0, 0, state={"order": generator})
    drawn = [draw(generator) for _ in range(3)]
    Reporter(trial).restore(order=generator)
    assert [draw(generator) for _ in range(3)] == drawn


def draw_all():
    return random.random(), np.random.rand(), torch.rand(1).item()


@pytest.mark.parametrize("between", [lambda: None, draw_all], ids=["nothing", "a model is built"])
def test_random_states_of_the_process_go_on_at_the_next_step(trial, between):
    Reporter(trial, checkpoint_seconds=0).report(1.0, 0, state={"epoch": 0})
    drawn = draw_all()
    again = Reporter(trial)
    again.restore()
    between()
    assert next(again.steps(3)) == 1
    assert draw_all() == drawn


def test_bytes_leave_the_random_states_alone(trial):
    Reporter(trial, checkpoint_seconds=0).report(1.0, 0, state=b"w")
    random.seed(1)
    expected = random.random()
    random.seed(1)
    Reporter(trial).restore()
    assert random.random() == expected


@pytest.mark.parametrize(
    "given",
    [torch.nn.Linear(1, 1).state_dict(), torch.nn.Linear, [1.0], 3, {"model": 1}],
    ids=["state dict", "class", "list", "number", "dict"],
)
def test_what_cannot_be_loaded_into_is_refused_before_there_is_a_checkpoint(trial, given):
    with pytest.raises(InvalidType, match="`model` must be the object itself"):
        Reporter(trial).restore(model=given)


@pytest.mark.parametrize("state", [{"net": 1}, {}, b"weights"], ids=["other", "empty", "bytes"])
def test_checkpoint_of_another_program_is_said_and_the_trial_starts_over(trial, state, caplog):
    random.seed(1)
    Reporter(trial, checkpoint_seconds=0).report(1.0, 0, state=state)
    model = torch.nn.Linear(1, 1)
    random.seed(2)
    again = Reporter(trial)
    with caplog.at_level(logging.WARNING):
        assert again.restore(model=model) is None
    assert "has no 'model'" in caplog.text
    assert next(again.steps(3)) == 0
    assert random.random() == random.Random(2).random()


def test_a_checkpoint_runs_nothing_when_it_is_read():
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    evil = {"values": Evil(), "random": None}
    file = io.BytesIO()
    torch.save(evil, file)
    for form, raw in (("plain", pickle.dumps(evil)), ("torch", file.getvalue())):
        with pytest.raises(InvalidType, match="could not be loaded"):
            unpack(form, raw)


def test_a_dict_without_torch_comes_back(monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "torch")
    state = {"weights": np.arange(3.0), "epoch": 3, "seen": {1}, "count": Counter("a")}
    form, raw = pack(state)
    found, _ = unpack(form, raw)
    assert form == "plain"
    np.testing.assert_array_equal(found.pop("weights"), state.pop("weights"))
    assert found == state


def test_checkpoint_of_a_newer_form_is_said_and_the_trial_starts_over(trial, caplog):
    progress = {
        "best_value": 1.0,
        "best_step": 0,
        "without_improvement": 0,
        "elapsed_seconds": 0.0,
    }
    checkpoint = Checkpoint(0, {0: 1.0}, progress, b"w", form="quantum")
    store = default_store(trial.study)
    assert isinstance(store, CheckpointFolder)
    TrialCheckpoints(store, "s", 0).save(checkpoint)
    with caplog.at_level(logging.WARNING):
        assert Reporter(trial).restore() is None
    assert "that of a newer hpolab" in caplog.text


SCRIPT = """
import os, random, signal, sys
import numpy as np, torch
from hpolab import Reporter, make_study, run
url, die_at = sys.argv[1], int(sys.argv[2])

def objective(trial):
    with Reporter(trial, checkpoint_seconds=0) as reporter:
        torch.manual_seed(reporter.seed)
        np.random.seed(reporter.seed % 2**32)
        random.seed(reporter.seed)
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1)
        )
        critic = torch.nn.Linear(1, 1)
        optimizers = {
            "of_model": torch.optim.Adam(model.parameters(), 0.01),
            "of_critic": torch.optim.SGD(critic.parameters(), 0.01, momentum=0.9),
        }
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizers["of_model"], 8)
        objects = {"model": model, "critic": critic, "schedule": schedule, **optimizers}
        saved = reporter.restore(**objects)
        losses = [] if saved is None else saved["losses"]
        for epoch in reporter.steps(8):
            if epoch == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            inputs = torch.randn(16, 4) + torch.from_numpy(np.random.randn(16, 4)).float()
            for each in optimizers.values():
                each.zero_grad()
            loss = (critic(model(inputs)) - inputs[:, :1] * random.random()).square().mean()
            loss.backward()
            for each in optimizers.values():
                each.step()
            schedule.step()
            losses.append(loss.item())
            reporter.report(loss.item(), epoch, state={**objects, "losses": losses})
        trial.set_user_attr("losses", losses)
        return losses[-1]

run(make_study("s", storage=url, pruner="none", seed=0), objective, n_trials=2)
"""


def test_loop_killed_and_resumed_ends_as_the_uninterrupted_one(tmp_path, python):
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("whole", "killed")]
    assert python.run(SCRIPT, urls[0], "-1").returncode == 0
    for die_at in (3, 6):
        assert python.run(SCRIPT, urls[1], str(die_at)).returncode == -signal.SIGKILL
    assert python.run(SCRIPT, urls[1], "-1").returncode == 0
    whole, killed = (
        [t.user_attrs["losses"] for t in load_study("s", storage=u).trials] for u in urls
    )
    assert killed == whole
