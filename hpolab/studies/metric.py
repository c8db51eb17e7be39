"""The name of the metric that a study optimizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpolab.studies.facts import stored_facts
from hpolab.studies.imported import IMPORT_KEY

if TYPE_CHECKING:
    from optuna import Study

__all__ = ["metric_names", "metric_of"]

_UNNAMED = "value"


def metric_names(study: Study) -> tuple[str, ...]:
    """Return what a study's values are called, one name for each.

    That is what its objective calls its metric, the column that a table was imported by, or what
    `optuna.study.Study.set_metric_names` was given. A value that nobody has named is "value", those
    of several objectives "value 0", "value 1" and so on.

    Example:
        >>> import optuna
        >>> study = optuna.create_study(directions=["minimize", "maximize"])
        >>> metric_names(study)
        ('value 0', 'value 1')
        >>> study.set_metric_names(["loss", "accuracy"])
        >>> metric_names(study)
        ('loss', 'accuracy')
    """
    given = study.metric_names
    if given is not None:
        return tuple(given)
    if len(study.directions) > 1:
        return tuple(f"{_UNNAMED} {place}" for place in range(len(study.directions)))
    attrs = study.user_attrs
    name = stored_facts(attrs).get("metric") or attrs.get(IMPORT_KEY, {}).get("value")
    return (name if isinstance(name, str) else _UNNAMED,)


def metric_of(study: Study) -> str:
    """Return what the value of a study with one objective is called, as `metric_names` has it."""
    return metric_names(study)[0]
