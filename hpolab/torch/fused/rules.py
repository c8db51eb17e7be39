"""Update rules of the optimizers, for K members at once, each with its own settings.

A rule is what ``torch.optim`` does in one step to one weight, written for weights (K, ...) that
stand one behind the other. What a step needs of settings and step number is computed beforehand
for all steps of an epoch, in float64, and given to the rule as coefficients (K, 1, ..., 1). The
names of states are torch's, so that a member's training can be taken up by its optimizer alone.

`RULES` has a row for each optimizer of the search spaces that torch computes weight by weight; the
tests hold each one to torch's own step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RULES", "Rule", "Steps", "rule_of"]

State: TypeAlias = Mapping[str, Tensor]
Coefficients: TypeAlias = Mapping[str, Tensor]
Array: TypeAlias = "NDArray[np.float64]"


@dataclass(frozen=True)
class Steps:
    """Some steps of one member's training.

    Attributes:
        settings: Its optimizer's arguments, by torch's names.
        t: Their numbers, the first of a training being 1, (s,).
        lr: The learning rate at each, (s,).
        lr_before: The learning rate one step before each; at step 1 that of step 1, (s,).
    """

    settings: Mapping[str, Any]
    t: Array
    lr: Array
    lr_before: Array


@dataclass(frozen=True)
class Rule:
    """How an optimizer changes a weight.

    Attributes:
        update: Changes a weight (K, ...) and its state in place, given the gradient.
        coefficients: What ``update`` reads besides, name -> (s,), of some steps. A name that is 0
            throughout may be left out where ``update`` says so.
        state: The names of its states that are shaped as the weight.
        initial: What a state begins with, of the settings, where that is not 0.
        shapes: Shapes of states that are not the weight's own, name -> shape of one member.
        scalars: States that torch keeps as one number a weight, of the steps behind them.
    """

    update: Callable[[Tensor, Tensor, State, Coefficients], None]
    coefficients: Callable[[Steps], Mapping[str, Array]]
    state: tuple[str, ...] = ()
    initial: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda settings: {}
    shapes: Callable[[tuple[int, ...]], Mapping[str, tuple[int, ...]]] | None = None
    scalars: Callable[[Steps], Mapping[str, float]] = lambda steps: {}

    def state_shapes(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of one member's states for a weight of a shape."""
        return dict.fromkeys(self.state, shape) if self.shapes is None else self.shapes(shape)


def _penalized(weight: Tensor, gradient: Tensor, c: Coefficients) -> Tensor:
    """Return the gradient with that of half the squared norm, where there is such a penalty."""
    return gradient + weight * c["weight_decay"] if "weight_decay" in c else gradient


def _decayed(weight: Tensor, c: Coefficients) -> None:
    """Shrink the weight itself, where the decay is decoupled."""
    if "shrink" in c:
        weight.mul_(1 - c["shrink"])


def _ones(steps: Steps, value: float) -> Array:
    return np.full(len(steps.t), float(value))


def _decay(steps: Steps, *, decoupled: bool = False) -> dict[str, Array]:
    decay = steps.settings["weight_decay"]
    name, value = ("shrink", steps.lr * decay) if decoupled else ("weight_decay", decay)
    return {name: np.broadcast_to(np.asarray(value, float), steps.t.shape)} if decay else {}


# SGD, with momentum (Polyak 1964) and Nesterov's (Sutskever et al. 2013, section 2)


def _sgd(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    weight.sub_(_penalized(weight, gradient, c) * c["lr"])


def _momentum(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    buffer = state["momentum_buffer"]
    buffer.mul_(c["momentum"]).add_(_penalized(weight, gradient, c) * c["fresh"])
    weight.sub_(buffer * c["lr"])


def _nesterov(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    buffer, gradient = state["momentum_buffer"], _penalized(weight, gradient, c)
    buffer.mul_(c["momentum"]).add_(gradient * c["fresh"])
    weight.sub_((gradient + buffer * c["momentum"]) * c["lr"])


def _sgd_coefficients(steps: Steps) -> dict[str, Array]:
    return {"lr": steps.lr, **_decay(steps)}


def _momentum_coefficients(steps: Steps) -> dict[str, Array]:
    # torch begins with the whole gradient, whatever the dampening.
    fresh = np.where(steps.t == 1, 1.0, 1.0 - steps.settings["dampening"])
    momentum = _ones(steps, steps.settings["momentum"])
    return {**_sgd_coefficients(steps), "momentum": momentum, "fresh": fresh}


# Adagrad (Duchi et al. 2011), Adadelta (Zeiler 2012), RMSprop (Hinton, lecture 6e)


def _adagrad(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    gradient = _penalized(weight, gradient, c)
    total = state["sum"].addcmul_(gradient, gradient)
    weight.sub_(gradient * c["lr"] / (total.sqrt() + c["eps"]))


def _adagrad_coefficients(steps: Steps) -> dict[str, Array]:
    settings = steps.settings
    lr = steps.lr / (1 + (steps.t - 1) * settings["lr_decay"])
    return {"lr": lr, "eps": _ones(steps, settings["eps"]), **_decay(steps)}


def _adadelta(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    gradient = _penalized(weight, gradient, c)
    squares, moves = state["square_avg"], state["acc_delta"]
    squares.mul_(c["rho"]).add_(gradient.square() * c["fresh"])
    move = (moves + c["eps"]).sqrt_() / (squares + c["eps"]).sqrt_() * gradient
    moves.mul_(c["rho"]).add_(move.square() * c["fresh"])
    weight.sub_(move * c["lr"])


def _adadelta_coefficients(steps: Steps) -> dict[str, Array]:
    rho, eps = steps.settings["rho"], steps.settings["eps"]
    found = {"rho": _ones(steps, rho), "fresh": _ones(steps, 1 - rho), "eps": _ones(steps, eps)}
    return {"lr": steps.lr, **found, **_decay(steps)}


def _rmsprop(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    gradient = _penalized(weight, gradient, c)
    squares = state["square_avg"].mul_(c["alpha"]).add_(gradient.square() * c["fresh"])
    weight.sub_(gradient * c["lr"] / (squares.sqrt() + c["eps"]))


def _rmsprop_with_momentum(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    gradient = _penalized(weight, gradient, c)
    squares = state["square_avg"].mul_(c["alpha"]).add_(gradient.square() * c["fresh"])
    mean = state["grad_avg"].lerp_(gradient, c["fresh"])
    size = (squares - mean.square() * c["centered"]).sqrt_() + c["eps"]
    buffer = state["momentum_buffer"].mul_(c["momentum"]).add_(gradient / size)
    weight.sub_(buffer * c["lr"])


def _rmsprop_coefficients(steps: Steps) -> dict[str, Array]:
    alpha, eps = steps.settings["alpha"], steps.settings["eps"]
    found = {"alpha": _ones(steps, alpha), "fresh": _ones(steps, 1 - alpha)}
    return {"lr": steps.lr, **found, "eps": _ones(steps, eps), **_decay(steps)}


def _rmsprop_with_momentum_coefficients(steps: Steps) -> dict[str, Array]:
    more = {name: _ones(steps, steps.settings[name]) for name in ("centered", "momentum")}
    return _rmsprop_coefficients(steps) | more


# Adam and Adamax (Kingma & Ba 2015), AMSGrad (Reddi et al. 2018), AdamW (Loshchilov & Hutter 2019),
# NAdam (Dozat 2016), RAdam (Liu et al. 2020)


def _moments(gradient: Tensor, state: State, c: Coefficients) -> tuple[Tensor, Tensor]:
    mean = state["exp_avg"].mul_(c["beta1"]).add_(gradient * c["fresh1"])
    squares = state["exp_avg_sq"].mul_(c["beta2"]).add_(gradient.square() * c["fresh2"])
    return mean, squares


def _adam(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    _decayed(weight, c)
    mean, squares = _moments(_penalized(weight, gradient, c), state, c)
    weight.sub_(mean * c["step"] / (squares.sqrt() * c["scale"] + c["eps"]))


def _amsgrad(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    mean, squares = _moments(_penalized(weight, gradient, c), state, c)
    largest = state["max_exp_avg_sq"]
    torch.maximum(largest, squares, out=largest)
    weight.sub_(mean * c["step"] / (largest.sqrt() * c["scale"] + c["eps"]))


def _nadam(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    _decayed(weight, c)
    gradient = _penalized(weight, gradient, c)
    mean, squares = _moments(gradient, state, c)
    size = squares.sqrt() * c["scale"] + c["eps"]
    weight.sub_((gradient * c["step"] + mean * c["next_step"]) / size)


def _radam(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    _decayed(weight, c)
    mean, squares = _moments(_penalized(weight, gradient, c), state, c)
    weight.sub_(mean * (c["plain"] + c["rectified"] / (squares.sqrt() + c["eps"])))


def _adamax(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    gradient = _penalized(weight, gradient, c)
    mean = state["exp_avg"].mul_(c["beta1"]).add_(gradient * c["fresh1"])
    largest = state["exp_inf"].mul_(c["beta2"])
    torch.maximum(largest, gradient.abs() + c["eps"], out=largest)
    weight.sub_(mean * c["step"] / largest)


def _betas(steps: Steps) -> dict[str, Array]:
    beta1, beta2 = steps.settings["betas"]
    named = {"beta1": beta1, "fresh1": 1 - beta1, "beta2": beta2, "fresh2": 1 - beta2}
    return {name: _ones(steps, value) for name, value in named.items()} | {
        "eps": _ones(steps, steps.settings["eps"])
    }


def _corrections(steps: Steps) -> tuple[Array, Array]:
    """Return 1 - beta**t of both moments."""
    beta1, beta2 = steps.settings["betas"]
    return 1 - beta1**steps.t, 1 - beta2**steps.t


def _adam_coefficients(steps: Steps, *, decoupled: bool = False) -> dict[str, Array]:
    first, second = _corrections(steps)
    return {
        **_betas(steps),
        **_decay(steps, decoupled=decoupled),
        "step": steps.lr / first,
        "scale": second**-0.5,
    }


def _nadam_coefficients(steps: Steps) -> dict[str, Array]:
    _, second = _corrections(steps)
    product = _mu_product(steps)
    mu, mu_next = _mu(steps, steps.t), _mu(steps, steps.t + 1)
    return {
        **_betas(steps),
        **_decay(steps, decoupled=steps.settings["decoupled_weight_decay"]),
        "step": steps.lr * (1 - mu) / (1 - product),
        "next_step": steps.lr * mu_next / (1 - product * mu_next),
        "scale": second**-0.5,
    }


def _mu(steps: Steps, t: Array) -> Array:
    decay, beta1 = steps.settings["momentum_decay"], steps.settings["betas"][0]
    found: Array = beta1 * (1 - 0.5 * 0.96 ** (t * decay))
    return found


def _mu_product(steps: Steps) -> Array:
    """Return the product of mu over all steps up to each."""
    products = np.cumprod(_mu(steps, np.arange(1.0, steps.t[-1] + 1)))
    return np.asarray(products[-len(steps.t) :], float)


def _radam_coefficients(steps: Steps) -> dict[str, Array]:
    first, second = _corrections(steps)
    beta2 = steps.settings["betas"][1]
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * steps.t * beta2**steps.t / second
    is_long = length > 5
    with np.errstate(invalid="ignore"):  # of short ones, which are not rectified
        rectified = np.sqrt(
            (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        )
    step = steps.lr / first
    return {
        **_betas(steps),
        **_decay(steps, decoupled=steps.settings["decoupled_weight_decay"]),
        "plain": np.where(is_long, 0.0, step),
        "rectified": np.where(is_long, step * rectified * np.sqrt(second), 0.0),
    }


def _adamax_coefficients(steps: Steps) -> dict[str, Array]:
    first, _ = _corrections(steps)
    return {**_betas(steps), **_decay(steps), "step": steps.lr / first}


# Adafactor (Shazeer & Stern 2018), as far as torch has it


def _adafactor(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    inner = tuple(range(1, weight.ndim))
    n = weight[0].numel()
    size = weight.square().sum(inner, keepdim=True).sqrt() / n**0.5
    step = torch.maximum(c["eps2"], size) * c["step"]
    _decayed(weight, c)
    eps1 = torch.where(c["eps1"] < 0, torch.finfo(weight.dtype).eps, c["eps1"])
    if "variance" in state:
        estimate = state["variance"].lerp_(gradient.square(), c["fresh"])
    else:
        rows, columns = state["row_var"], state["col_var"]
        rows.lerp_(gradient.square().mean(-1, keepdim=True), c["fresh"])
        columns.lerp_(gradient.square().mean(-2, keepdim=True), c["fresh"])
        estimate = rows * columns / torch.maximum(rows.mean(-2, keepdim=True), eps1)
    update = torch.maximum(estimate, eps1.square()).rsqrt() * gradient
    root = update.square().sum(inner, keepdim=True).sqrt() / n**0.5
    weight.sub_(update * step / (root / c["d"]).clamp(min=1.0))


def _adafactor_coefficients(steps: Steps) -> dict[str, Array]:
    settings = steps.settings
    eps1, eps2 = settings["eps"]
    return {
        "fresh": steps.t ** settings["beta2_decay"],
        "step": np.minimum(steps.lr, steps.t**-0.5),
        # Below 0: the machine's epsilon for the weight's dtype.
        "eps1": _ones(steps, -1.0 if eps1 is None else eps1),
        "eps2": _ones(steps, eps2),
        "d": _ones(steps, settings["d"]),
        **_decay(steps, decoupled=True),
    }


def _adafactor_shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    if len(shape) < 2:
        return {"variance": shape}
    return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}


# ASGD (Polyak & Juditsky 1992), Rprop (Riedmiller & Braun 1993)


def _asgd(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    gradient = _penalized(weight, gradient, c)
    weight.mul_(1 - c["lambd"] * c["eta"]).sub_(gradient * c["eta"])
    average = state["ax"]
    average.add_((weight - average) * c["mu"])


def _asgd_coefficients(steps: Steps) -> dict[str, Array]:
    # A step is made with what the one before has left: eta and mu of t - 1.
    eta = np.where(steps.t == 1, steps.lr, _eta(steps.settings, steps.t - 1, steps.lr_before))
    mu = 1 / np.maximum(1, steps.t - 1 - steps.settings["t0"])
    return {"eta": eta, "mu": mu, "lambd": _ones(steps, steps.settings["lambd"]), **_decay(steps)}


def _eta(settings: Mapping[str, Any], t: Array, lr: Array) -> Array:
    found: Array = lr / (1 + settings["lambd"] * lr * t) ** settings["alpha"]
    return found


def _asgd_scalars(steps: Steps) -> dict[str, float]:
    eta = _eta(steps.settings, steps.t[-1:], steps.lr[-1:])[0]
    return {"eta": float(eta), "mu": float(1 / max(1, steps.t[-1] - steps.settings["t0"]))}


def _rprop(weight: Tensor, gradient: Tensor, state: State, c: Coefficients) -> None:
    sizes, before = state["step_size"], state["prev"]
    agreement = gradient * before
    sizes.mul_(torch.where(agreement > 0, c["plus"], torch.where(agreement < 0, c["minus"], 1.0)))
    sizes.copy_(torch.minimum(torch.maximum(sizes, c["least"]), c["most"]))
    # Where the sign has changed the weight stays, and the next step counts as the first.
    gradient = torch.where(agreement < 0, 0.0, gradient)
    weight.sub_(gradient.sign() * sizes)
    before.copy_(gradient)


def _rprop_coefficients(steps: Steps) -> dict[str, Array]:
    (minus, plus), (least, most) = steps.settings["etas"], steps.settings["step_sizes"]
    named = {"minus": minus, "plus": plus, "least": least, "most": most}
    return {name: _ones(steps, value) for name, value in named.items()}


_MOMENTS = ("exp_avg", "exp_avg_sq")

RULES: Mapping[str, Rule] = {
    "sgd": Rule(_sgd, _sgd_coefficients),
    "momentum": Rule(_momentum, _momentum_coefficients, ("momentum_buffer",)),
    "nesterov": Rule(_nesterov, _momentum_coefficients, ("momentum_buffer",)),
    "adagrad": Rule(
        _adagrad,
        _adagrad_coefficients,
        ("sum",),
        initial=lambda settings: {"sum": settings["initial_accumulator_value"]},
    ),
    "adadelta": Rule(_adadelta, _adadelta_coefficients, ("square_avg", "acc_delta")),
    "rmsprop": Rule(_rmsprop, _rmsprop_coefficients, ("square_avg",)),
    "rmsprop_with_momentum": Rule(
        _rmsprop_with_momentum,
        _rmsprop_with_momentum_coefficients,
        ("square_avg", "grad_avg", "momentum_buffer"),
    ),
    "adam": Rule(_adam, _adam_coefficients, _MOMENTS),
    "adam_amsgrad": Rule(_amsgrad, _adam_coefficients, (*_MOMENTS, "max_exp_avg_sq")),
    "adamw": Rule(_adam, partial(_adam_coefficients, decoupled=True), _MOMENTS),
    "nadam": Rule(
        _nadam,
        _nadam_coefficients,
        _MOMENTS,
        scalars=lambda steps: {"mu_product": float(_mu_product(steps)[-1])},
    ),
    "radam": Rule(_radam, _radam_coefficients, _MOMENTS),
    "adamax": Rule(_adamax, _adamax_coefficients, ("exp_avg", "exp_inf")),
    "adafactor": Rule(_adafactor, _adafactor_coefficients, shapes=_adafactor_shapes),
    "asgd": Rule(_asgd, _asgd_coefficients, ("ax",), scalars=_asgd_scalars),
    "rprop": Rule(
        _rprop,
        _rprop_coefficients,
        ("prev", "step_size"),
        initial=lambda settings: {"step_size": settings["lr"]},
    ),
}
"""Optimizer -> rule. `muon` and `sparse_adam` have none: one is no rule of single weights, the
other is made for gradients that a stack does not have."""


def rule_of(params: Mapping[str, Any]) -> str | None:
    """Return the name of the rule for a trial's params, None if its optimizer has none."""
    name = params.get("optimizer")
    if name == "rmsprop" and (params.get("momentum") or params.get("centered")):
        return "rmsprop_with_momentum"
    return name if name in RULES else None
