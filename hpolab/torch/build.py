"""From a trial's params to torch's optimizer and learning-rate schedule."""

from __future__ import annotations

import inspect
from functools import partial
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, check_count, needs, one_of
from hpolab.keywords import checks_keywords
from hpolab.logs import get_logger
from hpolab.search_space.reach import values_beside, values_of
from hpolab.torch.optimizers import OPTIMIZER_ROWS, SCHEDULE_FREE
from hpolab.torch.schedules import SCHEDULE_ROWS, factor_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch
    from torch.optim.lr_scheduler import LRScheduler

    from hpolab.search_space.space import SearchSpace

__all__ = ["build_optimizer", "build_schedule", "check_optimizers", "warn_of_schedules"]

_logger = get_logger(__name__)


@checks_keywords()
def build_optimizer(
    params: Mapping[str, Any],
    model: torch.nn.Module | Iterable[Any],
    *,
    decay_biases: bool | None = None,
    layer_decay: float | None = None,
) -> torch.optim.Optimizer:
    """Return the torch optimizer that a trial's params describe, for a model's weights.

    Only parameters with ``requires_grad`` are trained. ``muon`` trains the hidden 2-D weights with
    `torch.optim.Muon` and everything else with AdamW at ``adamw_lr`` and the same
    ``weight_decay``, behind one optimizer with a parameter group for each; which 2-D weight is the
    output layer is told by order: it is the last.

    ``schedulefree_adamw`` and ``schedulefree_sgd`` train one set of weights and are evaluated with
    another. In a loop of your own call the optimizer's ``train()`` before training, and ``eval()``
    before every evaluation and checkpoint; objectives do it for you.

    Args:
        params: Trainer params with ``"optimizer"`` and that optimizer's parameters, as
            `optimizer_space` suggests them. Other names, such as the model's, are passed over, and
            fixed values may be missing.
        model: The model to train; or what torch's optimizers take: its parameters, or a list of
            groups such as ``{"params": [...], "weight_decay": 0.0}`` with torch's own arguments,
            which win over ``params``.
        decay_biases: Whether weight decay also shrinks biases and the weights of norms, as torch's
            optimizers do. False makes a group of its own for these and all other parameters below
            two dimensions. None takes it from ``params``, or True.
        layer_decay: The factor from a layer's learning rate to that of the layer before it, above 0
            and at most 1; the last layer has the full rate. Layers are counted as
            ``model.parameters()`` come, a block of a ModuleList or Sequential being one, a norm
            belonging to the layer before it. None takes it from ``params``, or 1.

    Raises:
        InvalidArgument: If ``params`` names no known optimizer or misses a parameter, the installed
            package has no such optimizer or refuses the values, the model has nothing that it could
            train, a group has an argument that the optimizer has not, or a whole model is needed;
            or if "prodigy", which finds one learning rate for all, gets several.
        InvalidType: If ``model`` is none of the above, or an option is of the wrong type.
        MissingExtra: If torch, or the package of the optimizer, is not installed.

    Example:
        >>> import torch
        >>> params = {"optimizer": "adam", "lr": 0.01, "beta1": 0.9, "beta2": 0.999, "hidden": 64}
        >>> optimizer = build_optimizer(params, torch.nn.Linear(4, 2))
        >>> type(optimizer).__name__, optimizer.defaults["lr"], optimizer.defaults["betas"]
        ('Adam', 0.01, (0.9, 0.999))
        >>> params |= {"optimizer": "adamw", "weight_decay": 0.1}
        >>> optimizer = build_optimizer(params, torch.nn.Linear(4, 2), decay_biases=False)
        >>> [group["weight_decay"] for group in optimizer.param_groups]
        [0.1, 0.0]
    """
    with needs("`build_optimizer`", "PyTorch", "torch"):
        import torch

    from hpolab.torch.groups import given_groups, model_groups

    name = _optimizer_name(params)
    optimizer_class = _class_of(name)
    arguments = OPTIMIZER_ROWS[name].arguments(params)
    grouping = _grouping(params, decay_biases, layer_decay)
    if isinstance(model, torch.nn.Module):
        trained = [p for p in model.parameters() if p.requires_grad]
        if name == "sparse_adam":
            _require_sparse(model)
        if name == "muon" and trained:
            return _build_muon(arguments, model, grouping)
        groups = model_groups(model, trained, arguments, **grouping)
    else:
        _refuse_without_model(name, grouping)
        groups = given_groups(model, _argument_names(optimizer_class))
        trained = [p for group in groups for p in group["params"]]
        for group in groups:
            # torch looks at what it gets for all of them, not at a group's own values.
            own = {key: value for key, value in group.items() if key not in ("params", "name")}
            _new(name, [{"params": group["params"]}], arguments | own)
    if not trained:
        raise InvalidArgument("`model` must have parameters with requires_grad, got none")
    if optimizer_class in (torch.optim.Adam, torch.optim.AdamW):
        arguments["fused"] = _fused(trained)
    optimizer = _new(name, groups, arguments)
    if name == "prodigy":
        _require_one_rate(optimizer)
    return optimizer


def check_optimizers(space: SearchSpace) -> None:
    """Refuse a space with an optimizer that is not installed, before a trial meets it.

    Raises:
        InvalidArgument: If the installed package has no such optimizer.
        MissingExtra: If its package is not installed.
    """
    for name in sorted(values_of(space, "optimizer") & OPTIMIZER_ROWS.keys()):
        _class_of(name)


def warn_of_schedules(space: SearchSpace) -> None:
    """Say that a schedule lowers the learning rate of an optimizer that does without.

    It is no error: all contenders of a comparison may have one schedule.
    """
    schedules = values_of(space, "schedule") - {"constant", "warmup"}
    beside = values_beside(space, "optimizer").get("schedule", {}).values()
    found = sorted({name for names in beside for name in names} & set(SCHEDULE_FREE))
    if schedules and found:
        _logger.warning(
            f"`search_space` joins the schedule {' or '.join(sorted(map(repr, schedules)))} to "
            f"{' and '.join(map(repr, found))}, which averages its weights in place of a schedule. "
            "Without it, or with 'warmup', it trains as it is meant to."
        )


@checks_keywords()
def build_schedule(
    params: Mapping[str, Any],
    optimizer: torch.optim.Optimizer,
    *,
    max_epochs: int,
    steps_per_epoch: int = 1,
    direction: str | None = None,
) -> LRScheduler:
    """Return the learning-rate schedule that a trial's params describe.

    Call its ``step()`` once after each optimizer step if ``steps_per_epoch`` is given, and once
    after each epoch otherwise. Every parameter group follows the schedule from its own learning
    rate; momentum is left alone. Under "plateau", also call its ``observe(value)`` once after each
    epoch, with the metric on `valid`.

    Args:
        params: Trainer params with ``"schedule"`` and that schedule's parameters, as
            `schedule_space` suggests them; without ``"schedule"`` the learning rate is constant.
            Other names are passed over, and fixed values may be missing. ``warmup_epochs`` is
            heeded under every schedule.
        optimizer: The optimizer whose learning rates are scheduled.
        max_epochs: The epochs that the training lasts at most.
        steps_per_epoch: How often ``step()`` is called in an epoch.
        direction: "minimize" or "maximize": where the metric gets better, for "plateau" alone.

    Raises:
        InvalidArgument: If ``params`` names no known schedule, misses a parameter, or was suggested
            for another number of epochs; the warm-up does not end before the training; a count is
            below 1; or "plateau" gets no ``direction``.
        InvalidType: If a count is not an int.
        MissingExtra: If torch is not installed.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD(torch.nn.Linear(4, 2).parameters(), lr=1.0)
        >>> params = {"schedule": "step", "step_size": 2, "gamma": 0.5}
        >>> schedule = build_schedule(params, optimizer, max_epochs=6)
        >>> rates = []
        >>> for _ in range(6):
        ...     rates += schedule.get_last_lr()
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    with needs("`build_schedule`", "PyTorch", "torch"):
        import torch  # noqa: F401
    from torch.optim.lr_scheduler import LambdaLR

    check_count("max_epochs", max_epochs)
    check_count("steps_per_epoch", steps_per_epoch)
    settings = _schedule_settings(params, max_epochs)
    if settings["schedule"] == "plateau":
        return _build_plateau(settings, optimizer, direction, steps_per_epoch)
    factor = partial(
        factor_at,
        row=SCHEDULE_ROWS[settings["schedule"]],
        params=settings,
        max_epochs=max_epochs,
        steps_per_epoch=steps_per_epoch,
    )
    # LambdaLR multiplies a group's initial_lr, which an earlier schedule may have set.
    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    # Partials of a plain function add nothing to the scheduler's state_dict, which can therefore
    # be loaded with weights_only.
    return LambdaLR(optimizer, [partial(factor, lr=float(rate)) for rate in rates])


def _optimizer_name(params: Mapping[str, Any]) -> str:
    if "optimizer" not in params:
        raise InvalidArgument(
            f"`params` must name an 'optimizer', got {', '.join(map(repr, params)) or 'none'}: "
            "take the search space of `optimizer_space(...)`, and change its ranges by `override`"
        )
    return one_of("optimizer", params["optimizer"], OPTIMIZER_ROWS)


def _class_of(name: str) -> type[torch.optim.Optimizer]:
    row = OPTIMIZER_ROWS[name]
    extra = "torch" if row.package == "torch" else "optimizers"
    with needs(f"`optimizer` {name!r}", row.package, extra):
        module = import_module(row.module)
    if not hasattr(module, row.class_name):
        raise InvalidArgument(
            f"`optimizer` {name!r} needs {row.package} {row.since} or newer, got {row.package} "
            f"{metadata.version(row.package)}"
        )
    found: type[torch.optim.Optimizer] = getattr(module, row.class_name)
    return found


def _argument_names(optimizer_class: type[torch.optim.Optimizer]) -> set[str]:
    found = inspect.signature(optimizer_class).parameters.values()
    return {each.name for each in found if each.kind is not each.VAR_KEYWORD} - {"params"}


def _schedule_settings(params: Mapping[str, Any], max_epochs: int) -> dict[str, Any]:
    name = one_of("schedule", params.get("schedule", "constant"), SCHEDULE_ROWS)
    made_for = params.get("schedule_epochs", max_epochs)
    if made_for != max_epochs:
        raise InvalidArgument(
            f"`max_epochs` must be {made_for}, for which the search space of the schedule {name!r} "
            f"was made, got {max_epochs}: make it by schedule_space({name!r}, "
            f"max_epochs={max_epochs})."
        )
    row = SCHEDULE_ROWS[name]
    settings = {"schedule": name, **row.fixed}
    settings |= {key: params[key] for key in [*row.parameters(), "warmup_epochs"] if key in params}
    needed = [*row.parameters(), *(["warmup_epochs"] if row.warms_up else [])]
    missing = [key for key in needed if key not in settings]
    if missing:
        raise InvalidArgument(
            f"`params` must have {', '.join(map(repr, missing))} for the schedule {name!r}"
        )
    warmup = settings.get("warmup_epochs", 0)
    if not 0 <= warmup < max_epochs:
        raise InvalidArgument(
            f"`warmup_epochs` must be at least 0 and below `max_epochs`, got {warmup} "
            f"of {max_epochs}"
        )
    return settings


def _build_plateau(
    settings: Mapping[str, Any],
    optimizer: torch.optim.Optimizer,
    direction: str | None,
    steps_per_epoch: int,
) -> LRScheduler:
    from hpolab.torch.plateau import PlateauSchedule

    if direction is None:
        raise InvalidArgument(
            "`schedule` 'plateau' follows a metric after every epoch and needs to know its "
            "`direction`, got None: give it to `build_schedule`, or take a schedule that counts "
            "epochs alone where the objective cannot."
        )
    if not 0 < settings["factor"] < 1:
        raise InvalidArgument(f"`factor` must be above 0 and below 1, got {settings['factor']}")
    for name in ("plateau_patience", "min_lr"):
        if settings[name] < 0:
            raise InvalidArgument(f"`{name}` must be 0 or above, got {settings[name]}")
    return PlateauSchedule(
        optimizer,
        maximize=one_of("direction", direction, ("minimize", "maximize")) == "maximize",
        factor=settings["factor"],
        patience=settings["plateau_patience"],
        min_lr=settings["min_lr"],
        warmup_steps=settings.get("warmup_epochs", 0.0) * steps_per_epoch,
    )


def _grouping(
    params: Mapping[str, Any], decay_biases: bool | None, layer_decay: float | None
) -> dict[str, Any]:
    from hpolab.torch.options import check_tunable

    biases = params.get("decay_biases", True) if decay_biases is None else decay_biases
    decay = params.get("layer_decay", 1.0) if layer_decay is None else layer_decay
    grouping = {"decay_biases": biases, "layer_decay": decay}
    for name, value in grouping.items():
        check_tunable(name, value)
    return grouping


def _refuse_without_model(optimizer: str, grouping: Mapping[str, Any]) -> None:
    asked = [] if grouping["decay_biases"] else ["`decay_biases=False`"]
    asked += [f"`layer_decay={grouping['layer_decay']}`"] if grouping["layer_decay"] != 1 else []
    asked += ["`optimizer` 'muon'"] if optimizer == "muon" else []
    if asked:
        raise InvalidArgument(
            f"`model` must be the torch.nn.Module for {' and '.join(asked)}, which need to know "
            "which weights are what, got parameters or groups."
        )


def _new(
    name: str, groups: list[dict[str, Any]], arguments: Mapping[str, Any]
) -> torch.optim.Optimizer:
    try:
        return _class_of(name)(groups, **arguments)
    except Exception as error:  # packages have errors of their own
        full_name = OPTIMIZER_ROWS[name].full_name
        raise InvalidArgument(f"{full_name} refuses this: {error}") from error


def _require_one_rate(optimizer: torch.optim.Optimizer) -> None:
    # It takes that of its first group for all, and says nothing.
    rates = sorted({group["lr"] for group in optimizer.param_groups})
    if len(rates) > 1:
        raise InvalidArgument(
            "`optimizer` 'prodigy' must have one learning rate for all weights, as it finds one "
            f"for all, got {', '.join(f'{rate:g}' for rate in rates)}: leave out `layer_decay`, "
            "and 'lr' in parameter groups."
        )


def _build_muon(
    arguments: dict[str, Any], model: torch.nn.Module, grouping: Mapping[str, Any]
) -> torch.optim.Optimizer:
    from hpolab.torch.groups import model_groups
    from hpolab.torch.muon import MuonWithAdamW, hidden_weights

    hidden = hidden_weights(model)
    if not hidden:
        raise InvalidArgument(
            "`optimizer` 'muon' needs a trainable 2-D weight between the model's embeddings and "
            "its output layer, got none; use 'adamw'"
        )
    chosen = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    adamw = {"lr": arguments.pop("adamw_lr"), "weight_decay": arguments["weight_decay"]}
    return MuonWithAdamW(
        model_groups(model, hidden, arguments, **grouping),
        model_groups(model, rest, adamw, **grouping),
        muon=arguments,
        adamw=adamw,
    )


def _require_sparse(model: torch.nn.Module) -> None:
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            if parameter.requires_grad and not getattr(module, "sparse", False):
                raise InvalidArgument(
                    "`optimizer` 'sparse_adam' trains modules with sparse=True only, such as "
                    f"torch.nn.Embedding(..., sparse=True), got {name!r} of {type(module).__name__}"
                )


def _fused(parameters: list[torch.nn.Parameter]) -> bool | None:
    # A step of Adam for an MLP of 784-64-64-10 on one CPU thread takes 73 us fused and 216 us
    # with torch's default (torch 2.13); the weights differ by float32 rounding. Elsewhere torch's
    # default is fast already. SGD and Adagrad would gain less and refuse sparse gradients.
    plain = all(p.device.type == "cpu" and p.is_floating_point() for p in parameters)
    return True if plain else None
