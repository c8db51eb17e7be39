"""Bytes that tell whether they are whole: a magic line, a checksum, a JSON line, and the rest."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["seal", "unseal"]


def seal(magic: bytes, head: Mapping[str, Any], rest: bytes) -> bytes:
    r"""Return a magic line, the SHA-256 of all behind it, a JSON line, and the rest.

    Args:
        magic: A line that tells what this is, in which format.
        head: What JSON can hold.
        rest: Any bytes.

    Example:
        >>> raw = seal(b"example 1\n", {"step": 3}, b"state")
        >>> unseal(b"example 1\n", raw)
        ({'step': 3}, b'state')
    """
    body = json.dumps(head).encode() + b"\n" + rest
    return magic + hashlib.sha256(body).digest() + body


def unseal(magic: bytes, raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the head and the rest of what `seal` has made.

    Raises:
        ValueError: If it begins otherwise, or is damaged.
    """
    start = len(magic) + hashlib.sha256().digest_size
    if not raw.startswith(magic):
        raise ValueError(f"it does not begin with {magic.decode().strip()!r}")
    if hashlib.sha256(raw[start:]).digest() != raw[len(magic) : start]:
        raise ValueError("its checksum differs")
    line, rest = raw[start:].split(b"\n", 1)
    return json.loads(line), rest
