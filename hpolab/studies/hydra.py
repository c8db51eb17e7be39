"""Overrides in Hydra's grammar, where each value is read back as it was, its type included.

The grammar: https://hydra.cc/docs/advanced/override_grammar/basic/. What a text means there is
decided twice: Hydra parses the word, then OmegaConf looks for ``${...}`` in what came out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType

__all__ = ["check_key", "value_word"]

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_KEY = re.compile(rf"{_NAME}(?:\.(?:{_NAME}|[0-9]+))*")

# What ends a key, or makes another request of the word: `~key` deletes, `a/b` chooses a group.
_NO_PREFIX = re.compile(r"[\s=~'\"\\$(){}\[\],]")

# Text that needs no quotes, in Hydra as in YAML.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[-./][A-Za-z0-9_]+)*")
# But for these: Hydra, or a YAML reader, takes them for something else.
_NO_TEXT = frozenset(
    ["false", "inf", "n", "nan", "no", "none", "null", "off", "on", "true", "y", "yes"]
)

# OmegaConf's mark of a value that is missing; it cannot be escaped.
_MISSING = "???"


def check_key(name: str, *, prefix: str = "", given: str | None = None) -> None:
    """Refuse a name that Hydra does not read as the name of a value.

    Args:
        name: The parameter.
        prefix: What the caller puts before it, such as "+model.".
        given: What the caller calls it instead; None for its own name. It may choose a config
            group, as "model/optimizer" does.

    Raises:
        InvalidArgument: If an override of that name cannot be written.
    """
    if given is None:
        is_sound = _KEY.fullmatch(name) is not None and not _NO_PREFIX.search(prefix)
    else:
        is_sound = given != "" and not _NO_PREFIX.search(given)
    if not is_sound:
        raise InvalidArgument(
            "Overrides must have names of letters, digits, '_' and '-', with dots between, got "
            f"{prefix + name if given is None else given!r}: give `prefixes` what the command "
            f"calls it, such as {{{name!r}: 'model.x'}}, or None to leave it out."
        )


def value_word(value: Any) -> str:
    r"""Return a value as Hydra reads it from a command line, once a shell has done its part.

    Raises:
        InvalidArgument: If Hydra cannot be given the value.
        InvalidType: If it is no text, number, bool, None, nor a list or dict of them.

    Example:
        >>> [value_word(each) for each in ("adam", "1e-3", 1e-3, None, "null", [0.9, 0.999])]
        ['adam', '"1e-3"', '0.001', 'null', '"null"', '[0.9,0.999]']
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None:
        return "null"
    if isinstance(value, str):
        return _text_word(value)
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, Sequence):
        return f"[{','.join(map(value_word, value))}]"
    if isinstance(value, Mapping):
        items = [f"{_dict_key(key)}:{value_word(each)}" for key, each in value.items()]
        return f"{{{','.join(items)}}}"
    raise InvalidType(
        "Values of overrides must be text, numbers, bools, None, or lists and dicts of them, got "
        f"{type(value).__name__}."
    )


def _text_word(text: str) -> str:
    if text == _MISSING:
        raise InvalidArgument(
            f"Values of overrides must be other than {_MISSING!r}, which Hydra takes for a value "
            "that is missing: take another word for it, or `prefixes` to leave it out."
        )
    if _PLAIN.fullmatch(text) and text.lower() not in _NO_TEXT:
        return text
    # Backslashes count only before what is special: there each stands for itself if doubled.
    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    # Hydra knows both quotes. YAML, if it reads the word, has escapes in double quotes alone.
    quote = "'" if "'" not in text and ('"' in text or "\\" in text) else '"'
    text = re.sub(rf"(\\*){quote}", lambda found: found[1] * 2 + f"\\{quote}", text)
    text = re.sub(r"(\\+)\Z", lambda found: found[1] * 2, text)
    return f"{quote}{text}{quote}"


def _dict_key(key: Any) -> str:
    if isinstance(key, str) and _PLAIN.fullmatch(key) and key.lower() not in _NO_TEXT:
        return key
    raise InvalidArgument(f"Names inside a value of an override must be plain words, got {key!r}.")
