"""Passwords are hidden in URLs, and in what drivers say of them."""

from __future__ import annotations

import pytest
from optuna.exceptions import StorageInternalError

from hpolab import redact
from hpolab.storage.redaction import reason_of


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://ada:secret@host", "redis://ada:***@host"),
        ("redis://host/0?password=secret", "redis://host/0?password=***"),
        ("redis://host/0?db=1&PASSWORD=secret&x=1", "redis://host/0?db=1&PASSWORD=***"),
        ("redis://host:6379/0?password=sec@ret", "redis://host:6379/0?password=***"),
        ("mysql://ada@host/db?passwd=secret", "mysql://ada@host/db?passwd=***"),
        ("postgresql://ada@host/db?sslpassword=secret", "postgresql://ada@host/db?sslpassword=***"),
        ("postgresql://ada:sec@ret@host/db", "postgresql://ada:***@host/db"),
        ("postgresql://ada:sec/ret@host/db", "postgresql://ada:***@host/db"),
        ("postgresql://ada:sec?re#t@host/db", "postgresql://ada:***@host/db"),
        ("postgresql://ada:sec%40ret@host/db", "postgresql://ada:***@host/db"),
        ("ada:secret@host/db", "ada:***@host/db"),
        ("postgresql:/ada:secret@host/db", "postgresql:***@host/db"),
        ("postgresql://ada@host/db", "postgresql://ada@host/db"),
        ("sqlite:////home/a:b@c/study.db", "sqlite:////home/a:b@c/study.db"),
        ("", ""),
    ],
)
def test_redact(url: str, redacted: str) -> None:
    assert redact(url) == redacted


@pytest.mark.parametrize("quoted", ["sec ret", "sec%20ret", "sec+ret"])
def test_a_driver_may_quote_a_password_in_any_spelling(quoted: str) -> None:
    url = "postgresql://ada:sec+ret@host/db?options=sec%20ret"
    error = OSError(f"cannot reach {quoted}@host\nand much more")
    assert reason_of(error, "postgresql://ada:sec%20ret@host/db?password=sec+ret") == (
        "cannot reach ***@host"
    )
    assert "ret" not in reason_of(OSError("bad sec+ret"), url)


def test_the_reason_is_the_drivers_own_first_line() -> None:
    wrapped = StorageInternalError("Optuna's advice")
    wrapped.__cause__ = OSError("the server is full")
    assert reason_of(wrapped, "redis://host") == "the server is full"
    assert reason_of(TimeoutError(), "redis://host") == "TimeoutError"
