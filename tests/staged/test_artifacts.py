"""Artifacts: kept by content, whole or not at all, within a size, and by one version."""

from __future__ import annotations

import logging
import os
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from hpolab import ArtifactCache, CacheMismatch, InvalidArgument, InvalidType
from hpolab.staged.artifacts import _Entry, digest_of, fingerprint


@pytest.fixture
def said(caplog, monkeypatch):
    """What Optuna's log says, which does not reach pytest by itself."""
    monkeypatch.setattr(logging.getLogger("optuna"), "propagate", True)
    return caplog


def path_of(cache, key):
    return cache.folder / f"{key}.artefact"


def age(cache, key, seconds):
    """Make an entry look as if it was used last some seconds ago."""
    path = path_of(cache, key)
    used = path.stat().st_mtime - seconds
    os.utime(path, (used, used))


def test_artifact_survives_its_process(tmp_path):
    ArtifactCache(tmp_path / "cache").save("a", {"maps": np.arange(3), "net": [1]})
    found = ArtifactCache(tmp_path / "cache").load("a")
    assert found["maps"].tolist() == [0, 1, 2]
    assert found["net"] == [1]
    assert ArtifactCache(tmp_path / "cache").load("b") is None


def test_fetch_makes_an_artifact_once(tmp_path):
    cache, made = ArtifactCache(tmp_path), []
    for _ in range(3):
        assert cache.fetch("a", lambda: made.append(1) or "artifact") == "artifact"
    assert made == [1]


@pytest.mark.parametrize("place", [20, 60, -1])
def test_damaged_entry_counts_as_none_and_is_said(tmp_path, said, place):
    cache = ArtifactCache(tmp_path)
    cache.save("a", "artifact")
    raw = bytearray(path_of(cache, "a").read_bytes())
    raw[place] ^= 1
    path_of(cache, "a").write_bytes(bytes(raw))
    assert cache.load("a") is None
    assert "is damaged" in said.text


def test_cut_entry_counts_as_none(tmp_path):
    cache = ArtifactCache(tmp_path)
    cache.save("a", "artifact")
    for length in (0, 10, 40):
        path_of(cache, "a").write_bytes(path_of(cache, "a").read_bytes()[:length])
        assert cache.load("a") is None


def test_failed_write_leaves_the_old_entry_and_nothing_beside(tmp_path, monkeypatch):
    cache = ArtifactCache(tmp_path)
    cache.save("a", "old")

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        cache.save("a", "new")
    assert cache.load("a") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.artefact"]


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    cache = ArtifactCache(tmp_path, max_bytes=3_500)
    for key, seconds in (("a", 30), ("b", 20), ("c", 10)):
        cache.save(key, bytes(1_000))
        age(cache, key, seconds)
    assert cache.load("a") == bytes(1_000)  # now it is the one used last
    cache.save("d", bytes(1_000))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c", "d"]


def test_artifact_above_the_limit_is_not_kept_and_that_is_said(tmp_path, said):
    cache = ArtifactCache(tmp_path, max_bytes=500)
    cache.save("small", b"1")
    cache.save("large", bytes(1_000))
    assert cache.load("large") is None
    assert cache.load("small") == b"1"
    assert "not kept" in said.text


@pytest.mark.parametrize("act", [ArtifactCache.check, lambda cache: cache.load("a")])
def test_entry_of_another_version_is_an_error_that_names_both(tmp_path, act):
    cache = ArtifactCache(tmp_path)
    (tmp_path / "a.artefact").write_bytes(b"hpolab artefact 7\nwhatever follows")
    with pytest.raises(CacheMismatch, match=r"must be of format 1, got one of format 7.*another v"):
        act(cache)


class Renamed:
    """A class that the reader will not find."""


def test_entry_that_nothing_installed_can_read_is_an_error_that_names_both(tmp_path):
    cache = ArtifactCache(tmp_path)
    pickled = pickle.dumps(Renamed(), protocol=5).replace(b"Renamed", b"Missing")
    entry = _Entry({"python": "2.7"}, pickled)
    path_of(cache, "a").write_bytes(entry.to_bytes())
    with pytest.raises(CacheMismatch, match=r"written by \{'python': '2.7'\}"):
        cache.load("a")


def test_artifact_that_cannot_be_pickled_is_refused(tmp_path):
    with pytest.raises(InvalidType, match="must be one that can be pickled"):
        ArtifactCache(tmp_path).save("a", lambda: 1)
    with pytest.raises(InvalidArgument, match="`max_bytes` must be 1 or above, got 0"):
        ArtifactCache(tmp_path, max_bytes=0)


@dataclass
class Scenes:
    images: np.ndarray
    boxes: list


def test_fingerprint_is_of_the_content():
    images = np.arange(6.0).reshape(2, 3)
    one, same = Scenes(images, [(1, 2)]), Scenes(images.copy(), [[1, 2]])
    assert fingerprint(one) == fingerprint(same)
    assert fingerprint(Scenes(images, [(2, 1)])) != fingerprint(one)
    assert fingerprint(torch.tensor(images)) == fingerprint(images)
    assert fingerprint(images.T) != fingerprint(images)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, True), (1, "1"), ("ab", ["a", "b"]), ([["a"], "b"], ["a", ["b"]]), (None, [])],
)
def test_fingerprint_tells_apart(one, other):
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize("value", [{1, 2}, object(), np.array([object()])])
def test_fingerprint_refuses_what_it_cannot_read(value):
    with pytest.raises(InvalidType, match="must be of arrays, numbers"):
        fingerprint(value)


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_are_kept_and_their_changes_noticed(order, tmp_path):
    maps = np.zeros((600, 600), order=order)
    before = digest_of(maps)
    maps[599, 3] = 1
    assert digest_of(maps) != before
    cache = ArtifactCache(tmp_path)
    cache.save("a", maps)
    assert (cache.load("a") == maps).all()


def test_digest_notices_a_change_and_nothing_else():
    artifact = {"net": torch.nn.Linear(2, 2), "maps": np.zeros(3)}
    before = digest_of(artifact)
    artifact["net"](torch.zeros(1, 2))
    assert digest_of(artifact) == before
    artifact["maps"][1] += 1
    assert digest_of(artifact) != before
