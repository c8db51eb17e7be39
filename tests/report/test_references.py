"""Simple solutions in one table with the trials that should beat them."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import create_trial

from hpolab import compare
from hpolab.objectives.packed_rows import RowScores
from hpolab.report.document import document_of
from hpolab.studies.recipe import REFERENCE_ROWS_PREFIX, REFERENCES_KEY
from hpolab.studies.trials import ROWS_KEY

REFERENCES = {
    "popularity": {"ndcg@10": 0.2, "ndcg@10 (error)": 0.011, "hr@10": 0.3},
    "ease": {"ndcg@10": 0.4, "ndcg@10 (error)": 0.012, "hr@10": 0.5},
    "als": "left out: als needs implicit",
}


@pytest.mark.parametrize(
    ("direction", "best", "order", "words"),
    [
        ("maximize", 0.5, ["trial 1", "ease", "popularity"], "trial 1 is first with ndcg@10 0.5;"),
        ("maximize", 0.3, ["ease", "trial 1", "popularity"], "of the tuned trial 1 comes first"),
        ("minimize", 0.3, ["popularity", "trial 1", "ease"], "popularity is first with"),
    ],
)
def test_simple_solutions_stand_beside_the_best_trial(
    study_of, page, direction, best, order, words
):
    study = study_of([0.1 if direction == "maximize" else 0.9, best], direction)
    study.set_user_attr(REFERENCES_KEY, REFERENCES)
    section = next(s for s in document_of(study).sections if s.anchor == "references")
    table = section.blocks[1]
    assert [row[0] for row in table.rows] == order
    assert list(table.head) == ["", "ndcg@10", "hr@10"]
    assert table.rows[order.index("ease")][1:] == ["0.4 ± 0.012", "0.5"]
    assert table.strong == {order.index("trial 1")}
    shown = page(study).text
    assert words in shown
    assert "als: left out: als needs implicit." in shown


def test_comparison_shows_simple_solutions_beside_the_best_of_each(page, curve):
    made = compare(curve, ["adam", "sgd"], study_name="c", n_trials=2, storage=InMemoryStorage())
    made.contenders["adam"].study.set_user_attr(REFERENCES_KEY, {"mean": {"accuracy": 0.5}})
    section = next(s for s in document_of(made).sections if s.anchor == "references")
    assert {row[0] for row in section.blocks[1].rows} == {"adam", "sgd", "mean"}


def packed(values):
    return RowScores.of(np.asarray(values, float)).as_text()


def study_with_rows(rows, direction):
    """A study of two trials, of which the better one has scores by row."""
    study = optuna.create_study(direction=direction)
    for value, attrs in ((0.5, {}), (0.4 if direction == "minimize" else 0.6, {ROWS_KEY: rows})):
        study.add_trial(
            create_trial(
                value=value,
                params={"x": value},
                distributions={"x": FloatDistribution(0, 1)},
                user_attrs=attrs,
            )
        )
    study.set_user_attr(REFERENCES_KEY, REFERENCES)
    return study


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_difference_to_the_best_trial_is_that_of_pairs(page, direction):
    rng = np.random.default_rng(0)
    ease, gains = rng.random(400), rng.normal(0.05, 0.1, 400)
    study = study_with_rows(packed(ease + gains), direction)
    study.set_user_attr(f"{REFERENCE_ROWS_PREFIX}ease", packed(ease))
    best = study.best_trial
    section = next(s for s in document_of(study).sections if s.anchor == "references")
    table = section.blocks[1]
    assert table.head[-1] == f"trial {best.number} minus it, ndcg@10"
    cells = {row[0]: row[-1] for row in table.rows}
    mean, _, error = cells["ease"].partition(" ± ")
    assert float(mean) == pytest.approx(gains.mean(), rel=1e-2)
    assert float(error) == pytest.approx(gains.std(ddof=1) / 20, rel=0.05)
    assert cells["popularity"] == cells[f"trial {best.number}"] == "-"
    assert "those of the pairs" in page(study).text


@pytest.mark.parametrize("rows", ["", None, packed([0.1, 0.2])])
def test_table_is_as_before_where_rows_are_not_those_of_the_trial(rows):
    study = study_with_rows(packed([0.1, 0.2, 0.3]), "maximize")
    if rows is not None:
        study.set_user_attr(f"{REFERENCE_ROWS_PREFIX}ease", rows)
    section = next(s for s in document_of(study).sections if s.anchor == "references")
    assert list(section.blocks[1].head) == ["", "ndcg@10", "hr@10"]
