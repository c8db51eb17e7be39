"""Every optimizer's space: its names, ranges and defaults, each held to its stated source."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
from typing import Any

import optuna
import pytest
import torch
from optuna.distributions import FloatDistribution

from hpolab import (
    EXTRA_OPTIMIZERS,
    OPTIMIZERS,
    InvalidArgument,
    InvalidType,
    SearchSpace,
    optimizer_space,
)

ALL = (*OPTIMIZERS, *EXTRA_OPTIMIZERS)

STUDY = {
    # Transcribed from the study's text: ranges in trainer units.
    ("adam", "lr"): (1e-4, 1e-2),
    ("adam", "beta1"): (0.8, 0.95),
    ("adam", "beta2"): (0.99, 0.9999),
    ("adamw", "weight_decay"): (1e-4, 2e-2),
    ("adadelta", "rho"): (0.5, 0.999),
}
ALGOPERF = {
    # mlcommons/algorithmic-efficiency, paper_baselines/*/tuning_search_space.json.
    ("nadam", "lr"): (1e-4, 1e-2),
    ("momentum", "momentum"): (1 - 0.3, 1 - 5e-3),
}
STATED = {
    # Transcribed from what the sources say: who says it, and what follows from AdamW's ranges.
    # schedulefree's README: 0.9, or 0.95, or 0.98.
    ("schedulefree_adamw", "beta1"): ("documentation of schedulefree", (0.8, 0.98)),
    # Vyas et al. 2024, appendix: beta1 in 0.9, 0.95, 0.99.
    ("soap", "beta1"): ("arXiv:2409.11321", (0.9, 0.99)),
    ("soap", "beta2"): ("arXiv:2409.11321", (0.9, 0.99)),
    # Chen et al. 2023, section 5: rates 3 to 10 times smaller, decay 3 to 10 times larger.
    ("lion", "lr"): ("arXiv:2302.06675", (1e-4 / 10, 3e-3)),
    ("lion", "weight_decay"): ("arXiv:2302.06675", (3 * 1e-4, 10 * 2e-2)),
}
SHARED = {
    # (optimizer, parameter): (whose, parameter)
    ("nesterov", "lr"): ("momentum", "lr"),
    ("nesterov", "momentum"): ("momentum", "momentum"),
    ("asgd", "lr"): ("sgd", "lr"),
    ("muon", "adamw_lr"): ("adamw", "lr"),
    ("nadam", "lr"): ("adam", "lr"),
    ("adamax", "beta1"): ("adam", "beta1"),
    ("adamax", "beta2"): ("adam", "beta2"),
    ("schedulefree_adamw", "beta2"): ("adam", "beta2"),
    ("schedulefree_adamw", "weight_decay"): ("adamw", "weight_decay"),
    ("schedulefree_sgd", "momentum"): ("schedulefree_adamw", "beta1"),
    ("soap", "weight_decay"): ("adamw", "weight_decay"),
    ("lion", "beta1"): ("adam", "beta1"),
    ("prodigy", "beta1"): ("adam", "beta1"),
    ("prodigy", "beta2"): ("adam", "beta2"),
} | {
    (name, key): ("adam", key)
    for name in ["adam_amsgrad", "adamw", "nadam", "radam", "sparse_adam"]
    for key in ["lr", "beta1", "beta2"]
}
TUNED = {
    "sgd": ["lr"],
    "momentum": ["lr", "momentum"],
    "nesterov": ["lr", "momentum"],
    "adagrad": ["lr"],
    "adadelta": ["lr", "rho"],
    "rmsprop": ["lr", "alpha"],
    "adam": ["lr", "beta1", "beta2"],
    "adam_amsgrad": ["lr", "beta1", "beta2"],
    "adamw": ["lr", "beta1", "beta2", "weight_decay"],
    "nadam": ["lr", "beta1", "beta2"],
    "radam": ["lr", "beta1", "beta2"],
    "adamax": ["lr", "beta1", "beta2"],
    "adafactor": ["lr"],
    "asgd": ["lr"],
    "rprop": ["lr"],
    "muon": ["lr", "weight_decay", "adamw_lr"],
    "sparse_adam": ["lr", "beta1", "beta2"],
    "schedulefree_adamw": ["lr", "beta1", "beta2", "weight_decay"],
    "schedulefree_sgd": ["lr", "momentum"],
    "soap": ["lr", "beta1", "beta2", "weight_decay"],
    "lion": ["lr", "beta1", "beta2", "weight_decay"],
    "prodigy": ["d_coef", "beta1", "beta2"],
}
TORCH = {
    "sgd": "SGD",
    "momentum": "SGD",
    "nesterov": "SGD",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adam_amsgrad": "Adam",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "radam": "RAdam",
    "adamax": "Adamax",
    "adafactor": "Adafactor",
    "asgd": "ASGD",
    "rprop": "Rprop",
    "muon": "Muon",
    "sparse_adam": "SparseAdam",
}
EXTRA = {
    "schedulefree_adamw": ("schedulefree", "AdamWScheduleFree"),
    "schedulefree_sgd": ("schedulefree", "SGDScheduleFree"),
    "soap": ("pytorch_optimizer", "SOAP"),
    "lion": ("pytorch_optimizer", "Lion"),
    "prodigy": ("pytorch_optimizer", "Prodigy"),
}
HALVES = {
    "beta1": ("betas", 0),
    "beta2": ("betas", 1),
    "eps1": ("eps", 0),
    "eps2": ("eps", 1),
    "eta_minus": ("etas", 0),
    "eta_plus": ("etas", 1),
    "step_min": ("step_sizes", 0),
    "step_max": ("step_sizes", 1),
}
DECAY_RATES = {"beta1", "beta2", "rho", "alpha", "momentum"}
PARAMETERS = [(name, key) for name, keys in TUNED.items() for key in keys]


def trial_range(name: str, key: str) -> tuple[float, float]:
    distributions = optimizer_space(name).distributions()
    distribution = distributions.get(key) or distributions[f"one_minus_{key}"]
    assert isinstance(distribution, FloatDistribution)
    assert distribution.log
    return distribution.low, distribution.high


def trainer_range(name: str, key: str) -> tuple[float, float]:
    low, high = trial_range(name, key)
    return (1 - high, 1 - low) if key in DECAY_RATES else (low, high)


def class_default(name: str, key: str) -> Any:
    argument, half = HALVES.get(key, (key, None))
    module, class_name = EXTRA.get(name, ("torch.optim", TORCH.get(name)))
    found = getattr(importlib.import_module(module), str(class_name))
    parameters = inspect.signature(found).parameters
    default = parameters[argument].default
    return default if half is None else default[half]


def test_every_first_order_optimizer_of_torch_is_there() -> None:
    classes = {
        name
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    }
    # LBFGS approximates second-order information and needs a closure.
    assert set(TORCH.values()) == classes - {"Optimizer", "LBFGS"}
    assert set(OPTIMIZERS) == set(TORCH)


def test_those_of_other_packages_are_listed_apart() -> None:
    assert set(EXTRA_OPTIMIZERS) == set(EXTRA)


@pytest.mark.parametrize("name", ALL)
def test_space_tunes_what_people_tune_and_names_itself(name: str) -> None:
    space = optimizer_space(name)
    expected = [f"one_minus_{key}" if key in DECAY_RATES else key for key in TUNED[name]]
    assert list(space.distributions()) == expected
    assert space.defaults()["optimizer"] == name


@pytest.mark.parametrize("name", ALL)
def test_defaults_are_the_class_s_own(name: str) -> None:
    defaults = optimizer_space(name).defaults()
    del defaults["optimizer"]
    if name in ("momentum", "nesterov"):
        assert defaults.pop("momentum") == 0.9
    if name == "muon":
        assert defaults.pop("adamw_lr") == class_default("adamw", "lr")
    if name == "schedulefree_adamw":
        assert defaults.pop("weight_decay") == class_default("adamw", "weight_decay")
    if name == "lion":
        # As strong a decay as AdamW's: the product of both.
        strength = class_default("adamw", "lr") * class_default("adamw", "weight_decay")
        assert defaults["lr"] * defaults.pop("weight_decay") == pytest.approx(strength)
    assert defaults == {key: class_default(name, key) for key in defaults}


@pytest.mark.parametrize("name", ALL)
def test_defaults_lie_in_their_ranges(name: str) -> None:
    space = optimizer_space(name)
    assert space.from_trial(space.to_trial(space.defaults())) == space.defaults()


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_every_range_has_one_source_and_agrees_with_it(name: str, key: str) -> None:
    source = optimizer_space(name).sources()[key]
    rules = re.findall(r"decades\(([\d.e+-]+), (\d+), (\d+)\)", source)
    if (name, key) in SHARED:
        whose, other = SHARED[name, key]
        assert source.startswith(f"shared with {whose}: ")
        assert trial_range(name, key) == trial_range(whose, other)
    elif (name, key) in STUDY:
        assert source == "the MNIST optimizer study"
        assert trainer_range(name, key) == pytest.approx(STUDY[name, key], rel=1e-12)
    elif (name, key) in ALGOPERF:
        assert "AlgoPerf" in source
        assert trainer_range(name, key) == pytest.approx(ALGOPERF[name, key], rel=1e-12)
    elif (name, key) in STATED:
        whose, expected = STATED[name, key]
        assert whose in source
        assert trainer_range(name, key) == pytest.approx(expected, rel=1e-12)
    else:
        ends = [(float(d) / 10 ** int(b), float(d) * 10 ** int(a)) for d, b, a in rules]
        assert trial_range(name, key) == pytest.approx((ends[0][0], ends[-1][1]), rel=1e-12)
        default = class_default(name, key)
        rate = 1 - default if key in DECAY_RATES else default
        assert float(rules[0][0]) == pytest.approx(rate)


def test_algoperf_range_that_is_also_adams_is_algoperfs() -> None:
    assert trainer_range("nadam", "lr") == ALGOPERF["nadam", "lr"]
    assert "AlgoPerf" in optimizer_space("nadam").sources()["lr"]


@pytest.mark.parametrize(
    ("one", "other"),
    # Prodigy finds its rate itself.
    list(itertools.combinations([name for name in ALL if name != "prodigy"], 2)),
)
def test_no_two_share_a_range_of_learning_rates_by_accident(one: str, other: str) -> None:
    def owner(name: str) -> str:
        found = re.match(r"shared with (\w+): ", optimizer_space(name).sources()["lr"])
        return found[1] if found else name

    shared = trial_range(one, "lr") == trial_range(other, "lr")
    assert shared == (owner(one) == owner(other))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(3))
def test_draws_lie_in_the_ranges(name: str, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    params = optimizer_space(name).suggest(study.ask())
    for key in TUNED[name]:
        low, high = trainer_range(name, key)
        assert low <= params[key] <= high


def test_a_list_makes_the_optimizer_a_parameter() -> None:
    space = optimizer_space(["sgd", "adamw"])
    assert list(space.distributions()) == [
        "optimizer",
        "sgd.lr",
        "adamw.lr",
        "adamw.one_minus_beta1",
        "adamw.one_minus_beta2",
        "adamw.weight_decay",
    ]
    assert space.defaults() == optimizer_space("sgd").defaults()


def test_all_optimizers_make_one_space() -> None:
    space = optimizer_space(list(ALL))
    assert SearchSpace.from_dict(space.to_dict()) == space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {space.suggest(study.ask())["optimizer"] for _ in range(150)}
    assert drawn == set(ALL)


def test_fixed_values_can_be_opened() -> None:
    space = optimizer_space("adam").override(eps=FloatDistribution(1e-10, 1e-4, log=True))
    assert space.distributions()["eps"] == FloatDistribution(1e-10, 1e-4, log=True)
    assert space.defaults()["eps"] == 1e-8


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("adamm", InvalidArgument, "Did you mean 'adam'"),
        ("Adam", InvalidArgument, "Did you mean 'adam'"),
        ([], InvalidArgument, "each name once"),
        (["adam", "adam"], InvalidArgument, "each name once"),
        (["adam", "smg"], InvalidArgument, "got 'smg'"),
        (3, InvalidType, "got int"),
    ],
)
def test_bad_name_is_refused(name: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        optimizer_space(name)
