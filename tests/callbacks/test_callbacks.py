"""hpolab.callbacks: what its import costs, and what it says without an extra."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hpolab.callbacks


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_importing_callbacks_imports_no_framework() -> None:
    loaded = python(
        "import sys, hpolab.callbacks\n"
        "print({'lightning', 'pytorch_lightning', 'sklearn', 'torch'} & set(sys.modules))"
    )
    assert loaded == "set()"


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("LightningPruningCallback", "lightning", "lightning"),
        ("fit_by_epochs", "sklearn", "sklearn"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(name: str, package: str, extra: str) -> None:
    message = python(
        f"import sys\nsys.modules[{package!r}] = None\n"
        f"try:\n    from hpolab.callbacks import {name}\n"
        "except ImportError as error:\n    print(error)"
    )
    assert message.startswith(f"`{name}` needs ")
    assert f"hpolab[{extra}]" in message


def test_every_public_name_is_there() -> None:
    assert hpolab.callbacks.__all__ == sorted(hpolab.callbacks.__all__)
    for name in hpolab.callbacks.__all__:
        assert getattr(hpolab.callbacks, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hpolab.callbacks.nothing  # noqa: B018
