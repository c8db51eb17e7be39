"""The report for a shell: verdicts and tables as plain text."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import create_trial

from hpolab import terminal_report


def test_study_shows_verdict_leaderboard_and_history(tuned, confirmation):
    text = terminal_report(tuned, width=100)
    flat = " ".join(text.split())
    assert text.startswith("curve\n")
    assert " ".join(confirmation.verdict.split()) in flat
    assert "RESULT" in text
    assert "LEADERBOARD" in text
    assert "best so far" in text
    assert "lr=" in text


def test_comparison_shows_what_its_verdict_is_about(comparison):
    text = terminal_report(comparison)
    assert " ".join(comparison.verdict.split()) in " ".join(text.split())
    assert text.index("one tuning each") < text.index("trials  default")


def test_confirmation_shows_its_verdict(confirmation):
    flat = " ".join(terminal_report(confirmation).split())
    assert " ".join(confirmation.verdict.split()) in flat


@pytest.mark.parametrize("width", [80, 160])
def test_tables_and_sentences_keep_to_the_width(tuned, width):
    lines = terminal_report(tuned, width=width).split("\n")
    # A configuration to paste is one line whatever its length.
    assert all(len(line) <= width for line in lines if "lr=" not in line)


def test_hostile_names_cannot_command_the_terminal():
    study = optuna.create_study(study_name="\x1b[2Jname [red]bold[/red]")
    study.add_trial(create_trial(value=1.0, user_attrs={"hpolab:metrics": {"\x1b]0;x\x07": 1.0}}))
    text = terminal_report(study)
    assert "\x1b" not in text
    assert "[red]bold[/red]" in text


def test_study_without_a_complete_trial_says_so():
    assert "No trial is complete yet" in terminal_report(optuna.create_study())
