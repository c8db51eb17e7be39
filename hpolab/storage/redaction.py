"""Passwords: in URLs, and in what drivers say of them, but never in a message of ours."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

from optuna.exceptions import OptunaError

from hpolab.keywords import checks_keywords

__all__ = ["reason_of", "redact", "redact_text", "split_scheme"]

_USER_AND_PASSWORD = re.compile(r"^([^:/@]*):(.*)@", re.DOTALL)
_SECRET_OPTIONS = re.compile(
    r"([?&;][^=&;]*(?:pass|pwd|secret|token)[^=&;]*=)(.*)", re.DOTALL | re.IGNORECASE
)


@checks_keywords()
def redact(url: str) -> str:
    """Hide the password in a URL, also in a malformed one.

    Args:
        url: Any URL. Whatever stands between the user name and the last ``@`` counts as the
            password, and so does everything from a ``?password=`` on.

    Returns:
        The URL with ``***`` in the place of each password.

    Example:
        >>> redact("postgresql://ada:p%40ss@db.example.org/studies")
        'postgresql://ada:***@db.example.org/studies'
        >>> redact("redis://db.example.org:6379/0?password=secret")
        'redis://db.example.org:6379/0?password=***'
    """
    start, rest = split_scheme(url)
    return start + _USER_AND_PASSWORD.sub(r"\1:***@", _SECRET_OPTIONS.sub(r"\1***", rest))


_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)


def redact_text(text: str) -> str:
    """Hide the passwords in the URLs of a text.

    Example:
        >>> redact_text("cannot reach https://ada:secret@example.org/api: timed out")
        'cannot reach https://ada:***@example.org/api: timed out'
    """
    return _URL.sub(lambda match: redact(match[0]), text)


def _secrets(url: str) -> list[str]:
    """What ``redact`` hides, in every spelling that a driver may quote; the longest first."""
    _, rest = split_scheme(url)
    options = [match[2] for match in _SECRET_OPTIONS.finditer(rest)]
    settings = [setting for option in options for setting in re.split("[&;]", option)]
    values = [setting.rpartition("=")[2] for setting in settings]
    passwords = [match[2] for match in _USER_AND_PASSWORD.finditer(_SECRET_OPTIONS.sub("", rest))]
    spellings = {
        spell(secret)
        for secret in options + settings + values + passwords
        for spell in (str, unquote, unquote_plus)
    }
    return sorted(spellings - {""}, key=len, reverse=True)


def split_scheme(url: str) -> tuple[str, str]:
    """Return a URL's scheme with its separator, and the rest."""
    scheme, separator, rest = url.partition("://")
    return (scheme + separator, rest) if separator else ("", url)


def reason_of(error: BaseException, url: str) -> str:
    """Return the first line of what a driver said, without the passwords of ``url``."""
    # Optuna and SQLAlchemy wrap what the driver said in advice of their own.
    if isinstance(error, OptunaError) and error.__cause__ is not None:
        error = error.__cause__
    error = getattr(error, "orig", None) or error
    if isinstance(error, UnicodeEncodeError):
        # Its text shows the character, and where in the password it stands.
        return "the driver cannot send a character of the user name or the password"
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    for secret in _secrets(url):
        reason = reason.replace(secret, "***")
    return reason
