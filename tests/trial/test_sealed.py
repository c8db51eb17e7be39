"""Sealed bytes: what was put in comes out, and nothing that has changed."""

from __future__ import annotations

import pytest

from hpolab.trial.sealed import seal, unseal

MAGIC = b"hpolab test 1\n"


def test_head_and_rest_come_back_whatever_bytes_they_are():
    head, rest = {"step": 3, "line": "a\nb"}, bytes(range(256)) + b"\n\n"
    assert unseal(MAGIC, seal(MAGIC, head, rest)) == (head, rest)


def test_each_changed_byte_is_found():
    raw = seal(MAGIC, {"step": 3}, b"state")
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(ValueError, match="checksum" if place >= len(MAGIC) else "begin"):
            unseal(MAGIC, bytes(changed))


@pytest.mark.parametrize("kept", [0, 5, len(MAGIC), len(MAGIC) + 40])
def test_half_a_write_is_found(kept):
    with pytest.raises(ValueError, match=r"begin|checksum"):
        unseal(MAGIC, seal(MAGIC, {"step": 3}, b"state")[:kept])
