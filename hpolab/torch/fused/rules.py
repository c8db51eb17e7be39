"""Update rules of the optimizers, for K members at once, each with its own settings.

A rule is what ``torch.optim`` does in one step to one weight, written for stacked weights
(K, ...). It is a chain of transformations, as in Optax: each takes the move that the one before it
returned, beginning with the gradient, and returns the next; `descend` subtracts the move, times
the learning rate, from the weight. Weight decay, momentum and moments each stand here once.

Settings and step numbers never enter a step: the coefficients of all steps of an epoch are
computed beforehand in float64, and a step reads its own as tensors (K, 1, ..., 1). No step reads
a number back from a tensor, so that steps can be recorded as CUDA graphs. States have torch's
names, so that an optimizer alone can take up a member's training, and the other way round.

`RULES` has a row for each optimizer of the search spaces that torch computes weight by weight; the
tests compare each with torch's own steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RULES", "Rule", "Steps", "Transformation", "rule_of"]

T = TypeVar("T")
Array: TypeAlias = "NDArray[np.float64]"
Tensors: TypeAlias = Mapping[str, Tensor]
Numbers: TypeAlias = Mapping[str, "Array | float"]
Shape: TypeAlias = tuple[int, ...]
Change: TypeAlias = Callable[[Tensor, Tensor, Tensors, Tensors], Tensor]


@dataclass(frozen=True)
class Steps:
    """Some steps of one member's training.

    Attributes:
        settings: The optimizer's arguments, by torch's names.
        t: The steps' numbers (s,); the first step of a training is 1.
        lr: The learning rate at each step (s,).
        lr_before: The learning rate one step earlier (s,); at step 1 that of step 1.
    """

    settings: Mapping[str, Any]
    t: Array
    lr: Array
    lr_before: Array


@dataclass(frozen=True)
class Transformation:
    """One link of a rule.

    Attributes:
        change: Takes the move (K, ...), the weight (K, ...), its states and the step's
            coefficients (K, 1, ..., 1), and returns the next move. It writes states and the
            weight in place and leaves the move alone, which may be a state of another link.
        coefficients: What ``change`` reads of some steps, name -> (s,), or a number if all steps
            share it. Only `coupled_decay` and `decoupled_decay` may leave out a name.
        states: Names of its states.
        starts: The setting that a state starts with, by state; other states start with 0.
        shapes: The states' shapes for one member's weight, if they are not the weight's own.
        scalars: States that torch keeps as one number per weight, after some steps.
    """

    change: Change
    coefficients: Callable[[Steps], Numbers] = lambda steps: {}
    states: tuple[str, ...] = ()
    starts: Mapping[str, str] = field(default_factory=dict)
    shapes: Callable[[Shape], Mapping[str, Shape]] | None = None
    scalars: Callable[[Steps], Mapping[str, float]] = lambda steps: {}


class Rule:
    """How an optimizer changes a weight: transformations, one after the other."""

    def __init__(self, *chain: Transformation) -> None:
        self._chain = chain

    def update(self, weight: Tensor, gradient: Tensor, state: Tensors, c: Tensors) -> None:
        """Make a step: change a weight (K, ...) and its states in place."""
        move = gradient
        for link in self._chain:
            move = link.change(move, weight, state, c)

    def coefficients(self, steps: Steps) -> Numbers:
        """Return what `update` reads of some steps, name -> (s,) or a number for all of them.

        A name that is missing counts as 0.
        """
        # Links may refine "lr", as bias correction does.
        return _merged({"lr": steps.lr}, *(link.coefficients(steps) for link in self._chain))

    def state_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shapes of one member's states for a weight of some shape."""
        return _merged(
            *(
                link.shapes(shape) if link.shapes else dict.fromkeys(link.states, shape)
                for link in self._chain
            )
        )

    def initial(self, settings: Mapping[str, Any]) -> dict[str, float]:
        """Return what states start with, if it is not 0."""
        starts = _merged(*(link.starts for link in self._chain))
        return {state: settings[name] for state, name in starts.items()}

    def scalars(self, steps: Steps) -> dict[str, float]:
        """Return the states that torch keeps as one number per weight, after some steps."""
        return _merged(*(link.scalars(steps) for link in self._chain))


def _merged(*parts: Mapping[str, T]) -> dict[str, T]:
    return {name: value for part in parts for name, value in part.items()}


# Parts that several transformations share


def _averaging(steps: Steps, **rates: float) -> dict[str, Any]:
    """Return rates of averages, what each leaves, and ε; in float32 1 - 0.9999 loses digits."""
    rests = {f"1-{name}": 1 - rate for name, rate in rates.items()}
    return {**rates, **rests, "eps": steps.settings["eps"]}


def _average_squares(average: Tensor, tensor: Tensor, c: Tensors, rate: str) -> Tensor:
    """Update an average of squares: v <- βv + (1 - β)x²; all (K, ...)."""
    return average.mul_(c[rate]).addcmul_(tensor * c[f"1-{rate}"], tensor)


def _root(squares: Tensor, c: Tensors) -> Tensor:
    """Return √v + ε, (K, ...)."""
    return squares.sqrt().add_(c["eps"])


# What optimizers have in common


def _coupled_decay_coefficients(steps: Steps) -> Numbers:
    is_decoupled = steps.settings.get("decoupled_weight_decay", False)
    decay = steps.settings["weight_decay"]
    return {"weight_decay": decay} if decay and not is_decoupled else {}


@partial(Transformation, coefficients=_coupled_decay_coefficients)
def coupled_decay(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Add the gradient of the penalty λ/2 ||w||²: u + λw."""
    return torch.addcmul(move, weight, c["weight_decay"]) if "weight_decay" in c else move


def _decoupled_decay_coefficients(steps: Steps) -> Numbers:
    is_decoupled = steps.settings.get("decoupled_weight_decay", True)
    decay = steps.settings["weight_decay"]
    return {"shrink": steps.lr * decay} if decay and is_decoupled else {}


@partial(Transformation, coefficients=_decoupled_decay_coefficients)
def decoupled_decay(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Shrink the weight itself: w <- (1 - ηλ)w (Loshchilov & Hutter 2019, algorithm 2)."""
    if "shrink" in c:
        weight.mul_(1 - c["shrink"])
    return move


@Transformation
def descend(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Make the move: w <- w - ηu."""
    weight.addcmul_(move, c["lr"], value=-1)
    return move


def _momentum_coefficients(steps: Steps) -> Numbers:
    # torch begins with the whole gradient, whatever the dampening.
    damped = 1.0 - steps.settings.get("dampening", 0.0)
    momentum = steps.settings["momentum"]
    return {"momentum": momentum, "inflow": np.where(steps.t == 1, 1.0, damped)}


@partial(Transformation, coefficients=_momentum_coefficients, states=("momentum_buffer",))
def momentum(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Accumulate moves: b <- μb + (1 - dampening)u, return b (Polyak 1964)."""
    return state["momentum_buffer"].mul_(c["momentum"]).addcmul_(move, c["inflow"])


@partial(Transformation, coefficients=_momentum_coefficients, states=("momentum_buffer",))
def nesterov(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Look one step ahead: u + μb (Sutskever et al. 2013, section 2)."""
    return torch.addcmul(move, momentum.change(move, weight, state, c), c["momentum"])


# Adagrad, Adadelta, RMSprop


def _adagrad_coefficients(steps: Steps) -> Numbers:
    lr = steps.lr / (1 + (steps.t - 1) * steps.settings["lr_decay"])
    return {"lr": lr, "eps": steps.settings["eps"]}


@partial(
    Transformation,
    coefficients=_adagrad_coefficients,
    states=("sum",),
    starts={"sum": "initial_accumulator_value"},
)
def adagrad(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Divide by the root of all squares: s <- s + u², u / (√s + ε) (Duchi et al. 2011)."""
    return move / _root(state["sum"].addcmul_(move, move), c)


@partial(
    Transformation,
    coefficients=lambda steps: _averaging(steps, rho=steps.settings["rho"]),
    states=("square_avg", "acc_delta"),
)
def adadelta(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Scale by past moves over gradients: Δ = u √(d + ε) / √(v + ε) (Zeiler 2012, algorithm 1).

    v averages u², d averages Δ² after the move.
    """
    squares = _average_squares(state["square_avg"], move, c, "rho")
    moves = state["acc_delta"]
    delta = (moves + c["eps"]).sqrt_().div_((squares + c["eps"]).sqrt_()).mul_(move)
    _average_squares(moves, delta, c, "rho")
    return delta


def _rms_coefficients(steps: Steps) -> Numbers:
    return _averaging(steps, alpha=steps.settings["alpha"])


@partial(Transformation, coefficients=_rms_coefficients, states=("square_avg",))
def rms(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Divide by the root of the average square: u / (√v + ε) (Hinton, lecture 6e)."""
    return move / _root(_average_squares(state["square_avg"], move, c, "alpha"), c)


@partial(
    Transformation,
    coefficients=lambda steps: {**_rms_coefficients(steps), "centered": steps.settings["centered"]},
    states=("square_avg", "grad_avg"),
)
def centered_rms(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Divide by the standard deviation: u / (√(v - m²) + ε) (Graves 2013, equations 38 to 41).

    m counts for members that are centered only.
    """
    squares = _average_squares(state["square_avg"], move, c, "alpha")
    mean = state["grad_avg"].lerp_(move, c["1-alpha"])
    return move / _root(torch.addcmul(squares, mean, mean * c["centered"], value=-1), c)


# Adam and its relatives


def _moments(move: Tensor, state: Tensors, c: Tensors) -> tuple[Tensor, Tensor]:
    """Update and return both moments: m <- β₁m + (1 - β₁)u, v <- β₂v + (1 - β₂)u²."""
    mean = state["exp_avg"].lerp_(move, c["1-beta1"])
    return mean, _average_squares(state["exp_avg_sq"], move, c, "beta2")


def _moments_coefficients(steps: Steps) -> dict[str, Any]:
    beta1, beta2 = steps.settings["betas"]
    found = _averaging(steps, beta1=beta1, beta2=beta2)
    return {**found, "lr": steps.lr / (1 - beta1**steps.t)}


def _adam_coefficients(steps: Steps) -> dict[str, Any]:
    # Both corrections are in η and ε (Kingma & Ba 2015, end of section 2): no tensor needs them.
    found = _moments_coefficients(steps)
    root = np.sqrt(1 - found["beta2"] ** steps.t)
    return {**found, "lr": found["lr"] * root, "eps": found["eps"] * root}


_MOMENTS = ("exp_avg", "exp_avg_sq")


@partial(Transformation, coefficients=_adam_coefficients, states=_MOMENTS)
def adam(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Divide the mean by the root of squares: m / (√v + ε) (Kingma & Ba 2015, algorithm 1)."""
    mean, squares = _moments(move, state, c)
    return mean / _root(squares, c)


@partial(Transformation, coefficients=_adam_coefficients, states=(*_MOMENTS, "max_exp_avg_sq"))
def amsgrad(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Divide by the largest squares so far: m / (√max v + ε) (Reddi et al. 2018, algorithm 2)."""
    mean, squares = _moments(move, state, c)
    largest = state["max_exp_avg_sq"]
    return mean / _root(torch.maximum(largest, squares, out=largest), c)


def _mu(steps: Steps, t: Array) -> Array:
    decay, beta1 = steps.settings["momentum_decay"], steps.settings["betas"][0]
    found: Array = beta1 * (1 - 0.5 * 0.96 ** (t * decay))
    return found


def _mu_product(steps: Steps) -> Array:
    """Return the product of μ over all steps up to each, (s,)."""
    products = np.cumprod(_mu(steps, np.arange(1.0, steps.t[-1] + 1)))
    return np.asarray(products[-len(steps.t) :], float)


def _nadam_coefficients(steps: Steps) -> Numbers:
    product, mu, mu_next = _mu_product(steps), _mu(steps, steps.t), _mu(steps, steps.t + 1)
    found = _adam_coefficients(steps)
    first = 1 - found["beta1"] ** steps.t  # by which Adam's η is divided, and NAdam's is not
    now, ahead = (1 - mu) / (1 - product), mu_next / (1 - product * mu_next)
    return {**found, "now": now * first, "ahead": ahead * first}


@partial(
    Transformation,
    coefficients=_nadam_coefficients,
    states=_MOMENTS,
    scalars=lambda steps: {"mu_product": float(_mu_product(steps)[-1])},
)
def nadam(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Adam that looks one step ahead: (au + bm) / (√v + ε) (Dozat 2016)."""
    mean, squares = _moments(move, state, c)
    return (move * c["now"]).addcmul_(mean, c["ahead"]).div_(_root(squares, c))


def _radam_coefficients(steps: Steps) -> Numbers:
    found = _moments_coefficients(steps)
    longest = 2 / found["1-beta2"] - 1
    second = 1 - found["beta2"] ** steps.t
    length = longest - 2 * steps.t * (1 - second) / second
    is_long = length > 5
    with np.errstate(invalid="ignore"):  # of short ones, which are not rectified
        rectified = np.sqrt(
            second
            * (length - 4)
            * (length - 2)
            * longest
            / ((longest - 4) * (longest - 2) * length)
        )
    return {**found, "plain": ~is_long, "rectified": np.where(is_long, rectified, 0.0)}


@partial(Transformation, coefficients=_radam_coefficients, states=_MOMENTS)
def radam(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Adam with r / (√v + ε) once v rests on enough steps, 1 before (Liu et al. 2020)."""
    mean, squares = _moments(move, state, c)
    return (c["rectified"] / _root(squares, c)).add_(c["plain"]).mul_(mean)


@partial(Transformation, coefficients=_moments_coefficients, states=("exp_avg", "exp_inf"))
def adamax(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Divide by the decaying maximum: m / max(β₂n, |u| + ε) (Kingma & Ba 2015, algorithm 2)."""
    mean = state["exp_avg"].lerp_(move, c["1-beta1"])
    largest = state["exp_inf"].mul_(c["beta2"])
    return mean / torch.maximum(largest, move.abs().add_(c["eps"]), out=largest)


# Adafactor, as far as torch has it


def _adafactor_coefficients(steps: Steps) -> Numbers:
    eps1, eps2 = steps.settings["eps"]
    return {
        "1-beta2": steps.t ** steps.settings["beta2_decay"],
        "lr": np.minimum(steps.lr, steps.t**-0.5),
        # Below 0: the machine's epsilon for the weight's dtype.
        "eps1": -1.0 if eps1 is None else eps1,
        "eps2": eps2,
        "d": steps.settings["d"],
    }


def _adafactor_shapes(shape: Shape) -> dict[str, Shape]:
    if len(shape) < 2:
        return {"variance": shape}
    return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}


def _size(tensor: Tensor) -> Tensor:
    """Return each member's root mean square, (K, 1, ..., 1)."""
    return tensor.square().mean(tuple(range(1, tensor.ndim)), keepdim=True).sqrt_()


@partial(Transformation, coefficients=_adafactor_coefficients, shapes=_adafactor_shapes)
def adafactor(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Divide by squares kept as rows times columns (Shazeer & Stern 2018, algorithms 4 and 5).

    x = u / √v, return x max(ε₂, rms(w)) / max(1, rms(x) / d), rms being that of each member's
    tensor; vectors keep v whole.
    """
    eps1 = torch.where(c["eps1"] < 0, torch.finfo(weight.dtype).eps, c["eps1"])
    squares = move.square()
    if "variance" in state:
        estimate = state["variance"].lerp_(squares, c["1-beta2"])
    else:
        rows = state["row_var"].lerp_(squares.mean(-1, keepdim=True), c["1-beta2"])
        columns = state["col_var"].lerp_(squares.mean(-2, keepdim=True), c["1-beta2"])
        estimate = rows * columns / torch.maximum(rows.mean(-2, keepdim=True), eps1)
    scaled = torch.maximum(estimate, eps1.square()).rsqrt_().mul_(move)
    length = torch.maximum(c["eps2"], _size(weight)) / (_size(scaled) / c["d"]).clamp_(min=1.0)
    return scaled.mul_(length)


# ASGD and Rprop


def _eta(settings: Mapping[str, Any], t: Array, lr: Array) -> Array:
    found: Array = lr / (1 + settings["lambd"] * lr * t) ** settings["alpha"]
    return found


def _asgd_coefficients(steps: Steps) -> Numbers:
    # A step is made with what the one before has left: η and μ of t - 1.
    eta = np.where(steps.t == 1, steps.lr, _eta(steps.settings, steps.t - 1, steps.lr_before))
    mu = 1 / np.maximum(1, steps.t - 1 - steps.settings["t0"])
    return {"lr": eta, "shrink": steps.settings["lambd"] * eta, "mu": mu}


def _asgd_scalars(steps: Steps) -> dict[str, float]:
    eta = _eta(steps.settings, steps.t[-1:], steps.lr[-1:])[0]
    return {"eta": float(eta), "mu": float(1 / max(1, steps.t[-1] - steps.settings["t0"]))}


asgd_decay = replace(decoupled_decay, coefficients=_asgd_coefficients)


@partial(Transformation, states=("ax",), scalars=_asgd_scalars)
def average_weights(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Average the weights beside: a <- a + μ(w - a) (Polyak & Juditsky 1992)."""
    state["ax"].lerp_(weight, c["mu"])
    return move


def _rprop_coefficients(steps: Steps) -> Numbers:
    (minus, plus), (least, most) = steps.settings["etas"], steps.settings["step_sizes"]
    return {"lr": 1.0, "minus": minus, "plus": plus, "least": least, "most": most}


@partial(
    Transformation,
    coefficients=_rprop_coefficients,
    states=("prev", "step_size"),
    starts={"step_size": "lr"},
)
def rprop(move: Tensor, weight: Tensor, state: Tensors, c: Tensors) -> Tensor:
    """Follow signs by steps that grow while a sign stays (Riedmiller & Braun 1993).

    Where the sign has changed the weight stays, and the next step counts as the first.
    """
    sizes, before = state["step_size"], state["prev"]
    agreement = move * before
    sizes.mul_(torch.where(agreement > 0, c["plus"], torch.where(agreement < 0, c["minus"], 1.0)))
    sizes.copy_(torch.minimum(torch.maximum(sizes, c["least"]), c["most"]))
    before.copy_(torch.where(agreement < 0, 0.0, move))
    return before.sign().mul_(sizes)


RULES: Mapping[str, Rule] = {
    "sgd": Rule(coupled_decay, descend),
    "momentum": Rule(coupled_decay, momentum, descend),
    "nesterov": Rule(coupled_decay, nesterov, descend),
    "adagrad": Rule(coupled_decay, adagrad, descend),
    "adadelta": Rule(coupled_decay, adadelta, descend),
    "rmsprop": Rule(coupled_decay, rms, descend),
    "rmsprop_with_momentum": Rule(coupled_decay, centered_rms, momentum, descend),
    "adam": Rule(coupled_decay, adam, descend),
    "adam_amsgrad": Rule(coupled_decay, amsgrad, descend),
    "adamw": Rule(decoupled_decay, adam, descend),
    "nadam": Rule(coupled_decay, decoupled_decay, nadam, descend),
    "radam": Rule(coupled_decay, decoupled_decay, radam, descend),
    "adamax": Rule(coupled_decay, adamax, descend),
    "adafactor": Rule(adafactor, decoupled_decay, descend),
    "asgd": Rule(coupled_decay, asgd_decay, descend, average_weights),
    "rprop": Rule(rprop, descend),
}
"""Optimizer -> rule. Two optimizers have none: `muon` treats a weight by its place in the model,
and `sparse_adam` needs sparse gradients, which a stack does not have."""


def rule_of(params: Mapping[str, Any]) -> str | None:
    """Return the name of the rule for a trial's params, None if its optimizer has none."""
    name = params.get("optimizer")
    if name == "rmsprop" and (params.get("momentum") or params.get("centered")):
        return "rmsprop_with_momentum"
    return name if name in RULES else None
