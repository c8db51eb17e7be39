"""Names in a search space that no trainer reads: settings of the objective itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpolab.errors import InvalidArgument
from hpolab.trial.reporter import ReporterOptions

if TYPE_CHECKING:
    from hpolab.search_space.space import SearchSpace

__all__ = ["refuse_settings"]

_OF_REPORTERS = ReporterOptions.__optional_keys__ | ReporterOptions.__required_keys__


def refuse_settings(search_space: SearchSpace, *settings: str) -> None:
    """Refuse a search space that holds a setting of the objective, where it would change nothing.

    Args:
        search_space: The space.
        *settings: Names of settings besides those of all reporters, such as ``patience``.

    Raises:
        InvalidArgument: If one is in the space.

    Example:
        >>> from hpolab import SearchSpace
        >>> refuse_settings(SearchSpace({"max_epochs": (2, 9)}), "max_epochs")
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `search_space` must not hold 'max_epochs', which would \
change nothing there, as it is an argument of the objective and the same in every trial.
    """
    for name in search_space.trainer_names():
        if name in _OF_REPORTERS or name in settings:
            raise InvalidArgument(
                f"`search_space` must not hold {name!r}, which would change nothing there, as it "
                "is an argument of the objective and the same in every trial."
            )
