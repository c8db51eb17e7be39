"""What a difference is said to be: its answer, with a smallest difference that matters."""

from __future__ import annotations

import dataclasses

import pytest

from hpolab import Effect


def test_effect_without_a_p_value_is_not_significant():
    assert not Effect.tested([0.2, 0.1, 0.3], None).is_significant


@pytest.mark.parametrize(
    ("ends", "p", "answer"),
    [
        ((0.2, 0.1, 0.3), 0.01, "better"),
        ((-0.2, -0.3, -0.1), 0.01, "worse"),
        ((0.0, -0.3, 0.3), 0.9, "not known yet"),
        ((0.01, 0.005, 0.015), 0.01, "practically the same"),
        ((0.0, -0.04, 0.04), 0.9, "practically the same"),
        ((0.03, 0.01, 0.05), 0.01, "better"),
        ((0.01, 0.01, 0.01), None, "not known yet"),
    ],
)
def test_answer_is_one_of_four_with_a_smallest_difference_of_a_twentieth(ends, p, answer):
    effect = dataclasses.replace(Effect.tested(ends, p), min_difference=0.05)
    assert effect.answer == answer
    assert effect.is_better == (answer == "better")
    assert effect.is_worse == (answer == "worse")
