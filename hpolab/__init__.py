"""Studies that prune, resume exactly and stay in budget, on top of Optuna.

Every public name is imported from here; ``__init__.pyi`` says where each stands. A name is loaded
when it is asked for, so that ``import hpolab`` needs no extra and stays quick.
"""

from typing import Any

import lazy_loader

_load, _names, __all__ = lazy_loader.attach_stub(__name__, __file__)

# What a family's file cannot import without its extra: package -> (its name, the extra).
_EXTRAS = {
    "lightgbm": ("LightGBM", "lightgbm"),
    "lightning": ("Lightning", "lightning"),
    "sklearn": ("scikit-learn", "sklearn"),
    "torch": ("PyTorch", "torch"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name not in __all__:
        from hpolab.errors import hint

        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{hint(name, __all__)}")
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in _EXTRAS:
            raise
        from hpolab.errors import MissingExtra

        raise MissingExtra(f"`{name}`", *_EXTRAS[package]) from error


def __dir__() -> list[str]:
    return [*_names(), "__version__"]
