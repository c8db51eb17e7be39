"""Every search space that hpolab brings, as tables: parameter, range, scale, default, source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpolab import (
    ESTIMATORS,
    EXTRA_OPTIMIZERS,
    LIGHTGBM_PRESETS,
    OPTIMIZERS,
    RECOMMENDER_LOSSES,
    RECOMMENDERS,
    SCHEDULES,
    estimator_space,
    lightgbm_space,
    optimizer_space,
    recommender_space,
    schedule_space,
)

if TYPE_CHECKING:
    from hpolab import SearchSpace

__all__ = ["estimators", "lightgbm", "optimizers", "recommenders", "schedules", "table_of"]

# A schedule's ranges depend on the length of the training.
_EPOCHS = 20


def optimizers() -> str:
    """Return a table for each optimizer."""
    return _sections(
        (f"`{name}`", optimizer_space(name)) for name in (*OPTIMIZERS, *EXTRA_OPTIMIZERS)
    )


def schedules() -> str:
    """Return a table for each schedule, for a training of twenty epochs."""
    return _sections((f"`{name}`", schedule_space(name, max_epochs=_EPOCHS)) for name in SCHEDULES)


def lightgbm() -> str:
    """Return a table for each preset of LightGBM."""
    return _sections((f"`{name}`", lightgbm_space(name)) for name in LIGHTGBM_PRESETS)


def estimators() -> str:
    """Return a table for each class of scikit-learn."""
    return _sections((f"`{name}`", estimator_space(name)) for name in ESTIMATORS)


def recommenders() -> str:
    """Return a table for each recommender, with its first loss."""
    sections = []
    for name in RECOMMENDERS:
        losses = ", ".join(f"`{loss}`" for loss in RECOMMENDER_LOSSES.get(name, ()))
        said = f"Losses: {losses}; the table is for the first.\n\n" if losses else ""
        sections.append(f"### `{name}`\n\n{said}{table_of(recommender_space(name))}\n")
    return "\n".join(sections)


def table_of(space: SearchSpace) -> str:
    """Return a search space as a Markdown table, and its fixed values in a sentence behind it.

    >>> from hpolab import SearchSpace
    >>> print(table_of(SearchSpace({"lr": (0.1, 1.0, "log"), "n": 3}, sources={"lr": "a paper"})))
    | parameter | range | scale | default | source |
    |---|---|---|---|---|
    | `lr` | 0.1 to 1 | log | 0.316228 | a paper |
    <BLANKLINE>
    Fixed: `n` = 3.

    >>> prior = {"lr": (0.2, 2.0, "a table")}
    >>> print(table_of(SearchSpace({"lr": (0.1, 1.0, "log")}, priors=prior)).splitlines()[-1])
    | `lr` | 0.1 to 1 | log | 0.316228 | prior: 0.2 times or divided by 2, a table |
    """
    defaults, sources = space.defaults(), space.sources()
    rows = [
        _row(space, name, distribution, defaults, sources)
        for name, distribution in space.distributions().items()
    ]
    tuned = {space.address(name) for name in space.distributions()}
    fixed = {name: value for name, value in space.defaults().items() if name not in tuned}
    head = ["| parameter | range | scale | default | source |", "|---|---|---|---|---|"]
    table = "\n".join([*head, *rows]) if rows else "Nothing is tuned."
    said = ", ".join(f"`{name}` = {_value(value)}" for name, value in fixed.items())
    return f"{table}\n\nFixed: {said}." if fixed else table


def _sections(spaces: Any) -> str:
    return "\n".join(f"### {title}\n\n{table_of(space)}\n" for title, space in spaces)


def _row(
    space: SearchSpace,
    name: str,
    distribution: BaseDistribution,
    defaults: dict[str, Any],
    sources: dict[str, str],
) -> str:
    address = space.address(name)
    if isinstance(distribution, CategoricalDistribution):
        span, scale = ", ".join(_value(choice) for choice in distribution.choices), "choice"
    else:
        ends = sorted(
            space.trainer_value(name, end) for end in (distribution.low, distribution.high)
        )
        span = " to ".join(_value(end) for end in ends)
        scale = "log" if distribution.log else "linear"
        if space.is_one_minus(name):
            scale = "log of 1 - value"
    default = _value(defaults[address]) if address in defaults else ""
    prior = space.priors().get(name)
    expected = "" if prior is None else prior.words(is_log="log" in scale)
    source = _linked("; ".join(part for part in (sources.get(address, ""), expected) if part))
    cells = [f"`{address}`", span, scale, default, source]
    return f"| {' | '.join(cells)} |"


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return f"`{value}`"
    if isinstance(value, (int, float)):
        return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e")
    return f"`{value}`"


def _linked(source: str) -> str:
    """Return a source as Markdown, with a link where it names a paper of arXiv."""
    text = source.replace("|", r"\|").replace("*", r"\*").replace("<", r"\<")
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
