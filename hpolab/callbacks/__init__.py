"""Hooks that report to a `Reporter` from loops that are not hpolab's.

A loop that the user writes, such as a plain PyTorch one, needs none of them: it calls
`Reporter.report` itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpolab.callbacks.lightgbm import LightGBMPruning
    from hpolab.callbacks.lightning import LightningPruningCallback
    from hpolab.callbacks.sklearn import fit_by_epochs

__all__ = ["LightGBMPruning", "LightningPruningCallback", "fit_by_epochs"]


def __getattr__(name: str) -> Any:
    # These frameworks take seconds to import, and users of one may not have the others.
    if name == "LightGBMPruning":
        from hpolab.callbacks.lightgbm import LightGBMPruning

        return LightGBMPruning
    if name == "LightningPruningCallback":
        from hpolab.callbacks.lightning import LightningPruningCallback

        return LightningPruningCallback
    if name == "fit_by_epochs":
        from hpolab.callbacks.sklearn import fit_by_epochs

        return fit_by_epochs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
