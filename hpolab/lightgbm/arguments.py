"""The arguments of `LightGBMObjective`: what it takes by name, and what each is read as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.lightgbm.data import TrainingData
from hpolab.lightgbm.values import read_name
from hpolab.trial.reporter import ReporterOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpolab.lightgbm.boosting import ObjectiveFunction

__all__ = [
    "LightGBMOptions",
    "open_objective",
    "read_data",
    "refuse_checkpoints",
    "same_in_all_trials",
    "usual_rounds",
]

# What LightGBM calls no objective.
_NO_OBJECTIVE = ("custom", "na", "none", "null")

# A booster cannot go on exactly where it was.
_WITHOUT_USE = ("checkpoints", "checkpoint_every", "checkpoint_seconds")


class LightGBMOptions(ReporterOptions, total=False):
    """What else `LightGBMObjective` takes by name."""

    cv: Any
    categorical: Sequence[str | int]
    weight: Any
    groups: Any
    class_weight: str | Mapping[Any, float] | None
    fidelity: str
    report_every: int


def open_objective(objective: Any) -> tuple[str, ObjectiveFunction | None]:
    """Return LightGBM's name, "custom" for a function, and the function.

    Raises:
        InvalidArgument: If the name says that there is none.
        InvalidType: If it is neither a name nor a function.
    """
    if isinstance(objective, str):
        name = read_name("objective", objective)
        if name in _NO_OBJECTIVE:
            raise InvalidArgument(
                f"`objective` must be one of LightGBM's or a function, got {objective!r}, which is "
                "none."
            )
        return name, None
    if not callable(objective):
        raise InvalidType(
            f"`objective` must be a name or a function, got {type(objective).__name__}."
        )
    return "custom", objective


def read_data(train: Any, objective: str, settings: LightGBMOptions) -> TrainingData:
    """Return `train` with what is said about its rows."""
    return TrainingData.of(
        train,
        objective,
        weight=settings.get("weight"),
        groups=settings.get("groups"),
        categorical=settings.get("categorical", ()),
    )


def same_in_all_trials(given: Mapping[str, Any], bin_params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of every trial: those given, and what else trials have in common."""
    return {
        "num_threads": 1,
        "deterministic": True,
        # Else LightGBM measures at each start which way of building histograms is faster. With
        # one thread both give the same model; this one took 0.85 to 0.97 of the other's time.
        "force_row_wise": not given.get("force_col_wise", False),
        **bin_params,
        **given,
    }


def refuse_checkpoints(settings: Mapping[str, Any]) -> None:
    """Refuse the options of checkpoints.

    Raises:
        InvalidArgument: If one is given.
    """
    for name in _WITHOUT_USE:
        if name in settings:
            raise InvalidArgument(
                f"`{name}` must be left out, as LightGBM cannot go on with a booster exactly where "
                f"it was and keeps no checkpoint, got {settings[name]!r}."
            )


def usual_rounds(n_rows: int, n_columns: int) -> int:
    """Return the most rounds of a training on a table of this size.

    The rows decide up to some 25 columns. With more columns and few rows, most of a round's time
    goes into searching all bins of all columns for each leaf: about 8,000 bins a column with 31
    leaves.
    """
    by_rows = min(max(40_000_000 // n_rows, 500), 5_000)
    by_cells = 1_200_000_000 // ((n_rows + 8_000) * n_columns)
    return min(by_rows, max(by_cells, 1_000))
