"""A sweep's report: its stages, what each has gained, and the best configuration."""

from __future__ import annotations

from hpolab.analysis.wording import short
from hpolab.report.document import document_of


def test_sweep_shows_each_stage_and_the_best(page, swept):
    shown = page(swept)
    for words in (
        "4 stages · 12 trials",
        f"Best accuracy {short(swept.best.value)}, in stage",
        "Stage 2: learning rate",
        "Trained with max_steps 4.",
        "From by hand-epochs-max_steps=4, by hand-epochs-max_steps=8.",
        "Best configuration",
        "What the values depend on",
    ):
        assert words in shown.text, words
    # The last stage varies two parameters, so that it has no slice.
    assert shown.figures.keys() == {
        "stages",
        "stage-activation",
        "stage-learning-rate",
        "stage-epochs",
    }
    by_stage = [len(trace["x"]) for trace in shown.figures["stages"]["data"][1:]]
    assert by_stage == [2, 4, 2, 4]


def test_stage_of_a_sweep_has_gained_what_it_is_better_than_all_before(swept):
    rows = [
        row for block in document_of(swept).sections[0].blocks for row in getattr(block, "rows", ())
    ]
    assert [row[0] for row in rows] == [stage.name for stage in swept.stages]
    values = [stage.best.value for stage in swept.stages]
    assert rows[0][-1] == "-"
    for place in (1, 2, 3):
        gain = values[place] - max(values[:place])
        assert rows[place][-1] == (short(gain) if gain > 0 else "none")
