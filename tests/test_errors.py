"""Errors: one root, a built-in second parent, and messages that name what was meant."""

from __future__ import annotations

import pytest

import hpolab
from hpolab import (
    ArtifactCache,
    CheckpointFolder,
    HpolabError,
    InvalidArgument,
    InvalidType,
    MissingExtra,
)
from hpolab.errors import check_count, hint, in_brief, needs, one_of

ERRORS = [
    value
    for value in (getattr(hpolab, name) for name in hpolab.__all__)
    if isinstance(value, type) and issubclass(value, Exception) and value is not HpolabError
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_is_caught_by_the_root_and_by_a_built_in_parent(error):
    assert issubclass(error, HpolabError)
    built_in = [each for each in error.__mro__ if each.__module__ == "builtins"]
    assert built_in[0] not in (Exception, BaseException)


@pytest.mark.parametrize(("count", "error"), [(0, InvalidArgument), (True, InvalidType)])
def test_what_is_no_count_is_refused_by_its_name(count, error):
    with pytest.raises(error, match="`n_trials` must be"):
        check_count("n_trials", count)


def test_an_unknown_name_brings_the_known_ones_and_the_nearest():
    assert one_of("sampler", "tpe", ["tpe", "random"]) == "tpe"
    with pytest.raises(InvalidArgument) as raised:
        one_of("sampler", "RANDOM", ["tpe", "random"])
    assert str(raised.value) == (
        "`sampler` must be one of 'random', 'tpe', got 'RANDOM'. Did you mean 'random'?"
    )


def test_a_name_that_is_known_or_like_no_other_brings_no_hint():
    assert hint("adam", ["adam", "sgd"]) == hint("lion", ["adam", "sgd"]) == ""


def test_only_a_failed_import_is_a_missing_extra():
    with (
        pytest.raises(MissingExtra, match=r"`X` needs Y: pip install 'hpolab\[z\]'") as raised,
        needs("`X`", "Y", "z"),
    ):
        raise ImportError("no Y")
    assert str(raised.value.__cause__) == "no Y"
    with pytest.raises(KeyError), needs("`X`", "Y", "z"):
        raise KeyError("y")


def test_an_error_in_brief_is_its_type_and_first_line():
    assert in_brief(OSError("\ndisk full\nat /tmp")) == "OSError: disk full"


@pytest.mark.parametrize("kind", [ArtifactCache, CheckpointFolder])
@pytest.mark.parametrize("name", ["notes.txt", "notes.txt/below/it"])
def test_a_folder_in_whose_place_a_file_stands_is_refused_at_once(kind, name, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InvalidArgument, match=r"`folder` must be a folder, or new.*notes.txt' is"):
        kind(tmp_path / name)
