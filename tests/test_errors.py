"""Errors: one root, a built-in second parent, and messages that name what was meant."""

from __future__ import annotations

import math

import numpy as np
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
from hpolab.errors import (
    check_count,
    check_seconds,
    error_text,
    hint,
    in_brief,
    needs,
    one_of,
)

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


@pytest.mark.parametrize(
    ("seconds", "low", "rule"),
    [
        (math.nan, None, "above 0, or None, got nan"),
        (0, None, "above 0, or None, got 0"),
        (-math.inf, None, "above 0, or None, got -inf"),
        (math.nan, 1, "1 or above, got nan"),
        (0.5, 1, "1 or above, got 0.5"),
        ("60", None, "a number, got str"),
        (True, None, "a number, got bool"),
        (None, 1, "a number, got NoneType"),
    ],
)
def test_what_is_no_duration_is_refused_by_its_name(seconds, low, rule):
    with pytest.raises(HpolabError, match=f"`timeout_seconds` must be {rule}"):
        check_seconds("timeout_seconds", seconds, low=low)


@pytest.mark.parametrize("seconds", [1, 0.5, math.inf, np.float32(2), np.int64(3), None])
def test_any_real_number_above_zero_is_a_duration_and_none_is_no_limit(seconds):
    check_seconds("timeout_seconds", seconds)


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


class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("one\ntwo"), "ValueError: one\ntwo"),
        (ValueError(), "ValueError"),
        (SyntaxError("invalid syntax", ("f.py", 1, 1, "a b")), "SyntaxError: invalid syntax"),
        (Silent(), "Silent: <exception str() failed>"),
    ],
)
def test_the_text_of_an_error_is_its_type_and_all_that_it_says(error, text):
    assert error_text(error).endswith(text)
    error.add_note("first note")
    error.add_note("second note")
    assert error_text(error).endswith(f"{text} (first note; second note)")


def test_the_text_of_an_error_that_is_a_book_is_cut():
    assert len(error_text(ValueError("x" * 10**6))) == 10_000


def test_an_error_in_brief_needs_no_words():
    assert in_brief(Silent()).startswith("Silent: ")


@pytest.mark.parametrize("kind", [ArtifactCache, CheckpointFolder])
@pytest.mark.parametrize("name", ["notes.txt", "notes.txt/below/it"])
def test_a_folder_in_whose_place_a_file_stands_is_refused_at_once(kind, name, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InvalidArgument, match=r"`folder` must be a folder, or new.*notes.txt' is"):
        kind(tmp_path / name)
