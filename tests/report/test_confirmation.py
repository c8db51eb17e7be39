"""A confirmation's report: the verdict first, then what it rests on."""

from __future__ import annotations


def test_confirmation_begins_with_its_verdict(page, confirmation):
    shown = page(confirmation)
    assert confirmation.verdict in shown.text
    assert shown.text.index(confirmation.verdict) < shown.text.index("improvement over")
    assert str(confirmation.shrinkage) in shown.text
    assert {"confirmation", "shrinkage"} <= shown.figures.keys()
