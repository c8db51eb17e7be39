"""What an analysis reads of a study: its complete trials, and one range for each parameter."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hpolab.errors import InvalidArgument, InvalidType

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

__all__ = ["check_single_objective", "common_ranges", "count_states"]


def check_single_objective(study: Study) -> None:
    """Refuse anything but a study with one objective value.

    Raises:
        InvalidType: If it is not a study.
        InvalidArgument: If it has several objective values.
    """
    import optuna

    if not isinstance(study, optuna.Study):
        raise InvalidType(f"`study` must be an optuna.Study, got {type(study).__name__}.")
    if len(study.directions) > 1:
        raise InvalidArgument(
            f"`study` must have one objective value, got one with {len(study.directions)}."
        )


def count_states(trials: Iterable[FrozenTrial]) -> dict[str, int]:
    """Count trials that are not read, by the reason.

    Example:
        >>> import optuna
        >>> count_states([optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED)])
        {'pruned': 1}
    """
    names = (
        "infeasible or infinite" if t.state == TrialState.COMPLETE else t.state.name.lower()
        for t in trials
    )
    return dict(sorted(Counter(names).items()))


def common_ranges(
    trials: Sequence[FrozenTrial],
) -> tuple[dict[str, BaseDistribution], dict[str, str]]:
    """Return one range for each parameter that varies, and why the others are left out.

    A resumed study may have widened a range, but trials are compared within one common range.
    """
    found: dict[str, dict[BaseDistribution, None]] = defaultdict(dict)
    values: dict[str, dict[Hashable, None]] = defaultdict(dict)
    for trial in trials:
        for name, distribution in trial.distributions.items():
            found[name][distribution] = None
            values[name][trial.params[name]] = None
    ranges, left_out = {}, {}
    for name, distributions in found.items():
        joined = _joined(list(distributions))
        if len(values[name]) < 2:
            n_with = sum(name in trial.params for trial in trials)
            where = "all trials" if n_with == len(trials) else f"the {n_with} trials that have it"
            left_out[name] = f"it has one value, {next(iter(values[name]))}, in {where}"
        elif joined is None:
            left_out[name] = "its ranges are of different kinds"
        else:
            ranges[name] = joined
    return ranges, left_out


def _joined(distributions: Sequence[BaseDistribution]) -> BaseDistribution | None:
    """Return the range that includes all of them; None if they are of different kinds."""
    first = distributions[0]
    if len(distributions) == 1:
        return first
    floats = [d for d in distributions if isinstance(d, FloatDistribution)]
    ints = [d for d in distributions if isinstance(d, IntDistribution)]
    if len({d.log for d in floats} | {d.log for d in ints}) > 1:
        return None
    if len(floats) == len(distributions):
        low, high = min(d.low for d in floats), max(d.high for d in floats)
        return FloatDistribution(low, high, log=floats[0].log)
    if len(ints) == len(distributions):
        bottom, top = min(d.low for d in ints), max(d.high for d in ints)
        return IntDistribution(bottom, top, log=ints[0].log)
    return None
