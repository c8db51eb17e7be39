"""What commands share: a file in the place of a study's name, and who sits at the terminal."""

from __future__ import annotations

import pytest

from hpolab.commands.shared import has_display
from hpolab.console import PlainConsole


@pytest.mark.parametrize(
    ("surroundings", "system", "is_terminal", "expected"),
    [
        ({"DISPLAY": ":0"}, "linux", True, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True, True),
        ({}, "linux", True, False),
        ({}, "darwin", True, True),
        ({}, "win32", True, True),
        ({"DISPLAY": ":0"}, "linux", False, False),
        ({"DISPLAY": ":0", "CI": "true"}, "linux", True, False),
        ({"SSH_CONNECTION": "1"}, "darwin", True, False),
    ],
)
def test_a_browser_has_a_place_only_before_a_person(
    surroundings, system, is_terminal, expected, monkeypatch
):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "CI", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(PlainConsole, "is_terminal", is_terminal)
    assert has_display() is expected
