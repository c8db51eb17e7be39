"""Simple solutions in one table with the trials that should beat them."""

from __future__ import annotations

import pytest
from optuna.storages import InMemoryStorage

from hpolab import compare
from hpolab.report.document import document_of
from hpolab.studies.recipe import REFERENCES_KEY

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
