"""The versions that a study's results may depend on, and how far those of two machines agree."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["current_versions", "differing_versions", "versions_in_use"]

# What trains where it is installed: package -> the module that is imported.
_TRAIN = {
    "torch": "torch",
    "schedulefree": "schedulefree",
    "pytorch-optimizer": "pytorch_optimizer",
}
_COMPARED = ("python", *_TRAIN, "optuna", "hpolab")


def current_versions() -> dict[str, str]:
    """Return the versions here: package -> version; what trains, where it is installed."""
    found = {package: version(package) for package in ("hpolab", "optuna", "numpy")}
    found["python"] = platform.python_version()
    for package in _TRAIN:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def differing_versions(
    stored: Mapping[str, str], here: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Return the packages whose versions may give other results: package -> (stored, here).

    Python, PyTorch, the packages of the extra ``optimizers``, Optuna and hpolab are compared by
    major and minor version: the third number of each is for mended mistakes, and what follows a
    plus sign says for which device it was built. What one side does not tell is not compared.

    Example:
        >>> differing_versions({"python": "3.12.4"}, {"python": "3.12.9", "torch": "2.9.0+cpu"})
        {}
        >>> differing_versions({"torch": "2.8.1+cu128"}, {"torch": "2.9.0"})
        {'torch': ('2.8.1+cu128', '2.9.0')}
    """
    return {
        package: (stored[package], here[package])
        for package in _COMPARED
        if package in stored
        and package in here
        and stored[package].split(".")[:2] != here[package].split(".")[:2]
    }


def versions_in_use() -> dict[str, str]:
    """Return the versions here that matter to what this process has imported.

    A study of boosted trees does not care for a PyTorch that is merely installed.
    """
    return {
        package: number
        for package, number in current_versions().items()
        if _TRAIN.get(package, "sys") in sys.modules
    }
