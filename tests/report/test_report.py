"""write_report: every kind of study gives a page that needs nothing and runs nothing foreign."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from html.parser import HTMLParser

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from hpolab import (
    Comparison,
    Contender,
    FunctionObjective,
    InvalidArgument,
    InvalidType,
    MissingExtra,
    SearchSpace,
    compare,
    import_runs,
    load_confirmation,
    make_study,
    optimizer_space,
    sweep,
    terminal_report,
    write_images,
    write_report,
)
from hpolab.analysis.wording import change, short
from hpolab.report import plots
from hpolab.report.document import document_of
from hpolab.report.reading import read
from hpolab.studies.recipe import REFERENCES_KEY

HOSTILE_PARTS = ("<img", "onerror")


class Page(HTMLParser):
    """A page's visible text, its figures and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.figures: dict[str, dict] = {}
        self._within: list[str] = []
        self._figure: str | None = None
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._figure = dict(attrs).get("data-for")
        self._within.append(tag)

    def handle_endtag(self, tag):
        self._within.append("")

    def handle_data(self, data):
        if self._figure:
            self.figures[self._figure.removeprefix("plot-")] = json.loads(data)
            self._figure = None
        elif not self._within or self._within[-1] not in ("script", "style"):
            self.texts.append(data)


@pytest.fixture
def page(tmp_path):
    """Writes a report and reads it again."""

    def page_of(source) -> Page:
        path = write_report(source, tmp_path / "report.html")
        return Page(path.read_text(encoding="utf-8"))

    return page_of


def study_of(values, direction="minimize", **settings) -> optuna.Study:
    """Return a study of complete trials with one parameter."""
    study = optuna.create_study(direction=direction, study_name="plain", **settings)
    x = FloatDistribution(0.0, 1.0)
    for place, value in enumerate(values):
        params = {"x": (place + 0.5) / (len(values) + 1)}
        study.add_trial(create_trial(value=value, params=params, distributions={"x": x}))
    return study


def test_study_shows_each_part(page, tuned):
    shown = page(tuned)
    for words in (
        "Trial 0 is the default configuration",
        "Confirmed on test data",
        load_confirmation(
            optuna.load_study(study_name="curve-confirm", storage=tuned._storage)
        ).verdict,
        "Baseline against best",
        "Leaderboard",
        "Recommended configurations",
        "beta2",
        "tpe(",
        "What the values depend on",
        "CUDA error: <device-side> assert & triggered",
        "diverged: nan",
        f"optuna {optuna.__version__}",
    ):
        assert words in shown.text, words
    assert {
        "confirmation",
        "shrinkage",
        "history",
        "intermediate-values",
        "slice-0",
        "parallel-coordinates",
    } <= shown.figures.keys()


def test_best_trial_is_compared_in_trainer_units(page, tuned):
    table = next(
        block
        for section in document_of(tuned).sections
        if section.anchor == "best"
        for block in section.blocks
    )
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["beta2"][0] == "0.999"
    assert rows["lr"][0] == "0.001"
    assert rows["eps"] == ["1e-08", "1e-08", "same"]
    assert rows["value"][1] == short(tuned.best_value)
    assert not any("one_minus" in name for name in rows)


def test_no_text_has_a_float_of_many_digits(page, tuned, comparison, swept):
    for source in (tuned, comparison, swept):
        for section in document_of(source).sections:
            for block in section.blocks:
                cells = [cell for row in getattr(block, "rows", ()) for cell in row]
                assert not re.findall(r"\d\.\d{9,}", " ".join(map(str, cells)))


def test_comparison_shows_each_part(page, comparison):
    shown = page(comparison)
    words_of_test = ("On the test data", f"improvement of {comparison.ranking()[0].name}")
    for words in ("Chance to win", "after 10 trials", "after 12 trials", "sgd", *words_of_test):
        assert words in shown.text, words
    assert {"best-so-far", "best-trials", "test-scores", "parameter-0"} <= shown.figures.keys()
    assert [trace["name"] for trace in shown.figures["best-so-far"]["data"][-2:]] == ["adam", "sgd"]


def test_comparison_of_one_trial_each_shows_no_race_and_no_chance(page, curve):
    shown = page(
        compare(curve, ["adam", "sgd"], study_name="c", n_trials=1, storage=InMemoryStorage())
    )
    assert "Chance to win" not in shown.text
    assert "would win in" not in shown.text
    assert "best-so-far" not in shown.figures
    assert "best-trials" in shown.figures
    assert "-0" not in shown.text.split()


def test_confirmation_begins_with_its_verdict(page, confirmation):
    shown = page(confirmation)
    assert confirmation.verdict in shown.text
    assert shown.text.index(confirmation.verdict) < shown.text.index("improvement over")
    assert str(confirmation.shrinkage) in shown.text
    assert {"confirmation", "shrinkage"} <= shown.figures.keys()


REFERENCES = {
    "popularity": {"ndcg@10": 0.2, "ndcg@10 (error)": 0.011, "hr@10": 0.3},
    "ease": {"ndcg@10": 0.4, "ndcg@10 (error)": 0.012, "hr@10": 0.5},
    "als": "left out: `als` needs implicit",
}


@pytest.mark.parametrize(
    ("direction", "best", "order", "words"),
    [
        ("maximize", 0.5, ["trial 1", "ease", "popularity"], "trial 1 is first with ndcg@10 0.5;"),
        ("maximize", 0.3, ["ease", "trial 1", "popularity"], "of the tuned trial 1 comes first"),
        ("minimize", 0.3, ["popularity", "trial 1", "ease"], "popularity is first with"),
    ],
)
def test_simple_solutions_stand_beside_the_best_trial(page, direction, best, order, words):
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
    assert "als: left out: `als` needs implicit." in shown


def test_comparison_shows_simple_solutions_beside_the_best_of_each(page, curve):
    made = compare(curve, ["adam", "sgd"], study_name="c", n_trials=2, storage=InMemoryStorage())
    made.contenders["adam"].study.set_user_attr(REFERENCES_KEY, {"mean": {"accuracy": 0.5}})
    section = next(s for s in document_of(made).sections if s.anchor == "references")
    assert {row[0] for row in section.blocks[1].rows} == {"adam", "sgd", "mean"}


def test_sweep_shows_each_stage_and_the_best(page, swept):
    shown = page(swept)
    for words in (
        "4 stages · 12 trials",
        f"The best value is {short(swept.best.value)}",
        "Stage 2: learning rate",
        "Trained with max_steps 4.",
        "From by hand-epochs-max_steps=4, by hand-epochs-max_steps=8.",
        "Best configuration",
        "What the values depend on",
    ):
        assert words in shown.text, words
    # The last stage varies two parameters, so that it has no slice.
    assert shown.figures.keys() == {"stages", "stage-0", "stage-1", "stage-2"}
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


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_course_of_a_sweep_passes_over_what_has_no_value(direction):
    def train(params, reporter):
        return params["x"] if params["x"] > 0.1 else math.nan

    objective = FunctionObjective(
        train, search_space=SearchSpace({"x": (0.0, 1.0)}), direction=direction, max_steps=1
    )
    values = {"one": {"x": [0.5, 0.0]}, "two": {"x": [0.05, 0.4, 0.6, 0.5]}}
    found = sweep(
        objective, values, study_name="s", storage=InMemoryStorage(), show_progress_bar=False
    )
    shown = plots.course(found)
    assert [series.x for series in shown.series] == [[1.0], [4.0, 5.0, 6.0]]
    changes = [5] if direction == "maximize" else [4]
    assert shown.best_counts == [1, *changes, 6]
    assert shown.best_values[-1] == found.best.value
    assert "1 without a value" in terminal_report(found)


def test_confirmation_that_cannot_be_read_is_said_to_be_there(page):
    storage = InMemoryStorage()
    optuna.create_study(study_name="plain-confirm", storage=storage)
    shown = page(study_of([1.0, 2.0], storage=storage))
    assert "'plain-confirm' is in the storage, but cannot be read yet" in shown.text


def two_values(n_values: int) -> optuna.Study:
    study = optuna.create_study(directions=["minimize", "maximize", "minimize"][:n_values])
    for i in range(5):
        x = (i + 0.5) / 6
        study.add_trial(
            create_trial(
                values=[x, x * x, 1 - x][:n_values],
                params={"x": x, "y": 1 - x},
                distributions={n: FloatDistribution(0.0, 1.0) for n in ("x", "y")},
            )
        )
    return study


def of_states(*states: TrialState) -> optuna.Study:
    study = optuna.create_study()
    for state in states:
        study.add_trial(create_trial(state=state))
    return study


def infeasible() -> optuna.Study:
    study = study_of([])
    for i in range(3):
        trial = create_trial(
            value=float(i),
            params={"x": 0.2 * i},
            distributions={"x": FloatDistribution(0.0, 1.0)},
            constraints={"c": 1.0},
        )
        study.add_trial(trial)
    return study


def conditional() -> optuna.Study:
    space = optimizer_space(["adam", "sgd"])
    study = make_study("conditional", storage=InMemoryStorage(), search_space=space)
    rng = np.random.default_rng(0)
    study.optimize(lambda trial: space.suggest(trial)["lr"] + rng.normal(), n_trials=14)
    return study


def imported() -> optuna.Study:
    rows = [
        {"run": f"r{i}", "lr": 10.0 ** -(i % 5), "optimizer": ("adam", "")[i % 2], "score": i % 4}
        for i in range(12)
    ]
    return import_runs(
        [*rows, {"run": "bad", "lr": 1.0, "score": "NaN"}],
        study_name="foreign",
        value="score",
        direction="maximize",
        baseline="r3",
        storage=InMemoryStorage(),
    )


def test_baseline_that_an_import_has_named_is_called_no_default(page):
    shown = page(imported())
    names = [trace["name"] for trace in shown.figures["history"]["data"]]
    assert "baseline" in names
    assert "default" not in names
    legend = next(s for s in document_of(imported()).sections if s.anchor == "slice").blocks[0]
    assert set(legend.legend) == {"baseline", "best"}


def changed_choices() -> optuna.Study:
    study = optuna.create_study()
    for i, value in enumerate([1, "1", None, True, 2.5]):
        distribution = CategoricalDistribution([1, "1", None, True, 2.5])
        study.add_trial(
            create_trial(value=float(i), params={"c": value}, distributions={"c": distribution})
        )
    return study


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: study_of([]), "No trial is complete yet"),
        (lambda: of_states(TrialState.RUNNING, TrialState.WAITING), "No trial is complete yet"),
        (lambda: of_states(*[TrialState.FAIL] * 3), "no reason stored"),
        (lambda: study_of([0.5]), "Too few trials to show which parameters matter"),
        (lambda: study_of([0.5] * 20), "Leaderboard"),
        (lambda: study_of([math.inf, 0.5, -math.inf, 0.25]), "Leaderboard"),
        (lambda: study_of([math.inf]), "none with a finite value"),
        (lambda: two_values(2), "The study has 2 objective values"),
        (lambda: two_values(3), "Not shown:"),
        (infeasible, "Each complete trial violates a constraint"),
        (conditional, "Leaderboard"),
        (imported, "The baseline is run r3"),
        (changed_choices, "Leaderboard"),
    ],
)
def test_any_study_gives_a_readable_page(page, make, words):
    shown = page(make())
    assert words in shown.text
    assert "How it was made" in shown.text
    numbers = json.dumps(list(shown.figures.values()))
    assert "NaN" not in numbers
    assert "Infinity" not in numbers


def test_contender_without_a_value_cannot_win(page):
    studies = {name: study_of(values) for name, values in {"a": [1, 2], "b": []}.items()}
    contenders = {
        name: Contender(name, study, np.array([1.0, 2.0] if name == "a" else []), None, None, None)
        for name, study in studies.items()
    }
    shown = page(Comparison("c", "minimize", contenders))
    assert "Without a value: b" in shown.text


def test_names_and_texts_of_a_study_stay_text(page, hostile, tmp_path):
    shown = page(hostile)
    assert not [tag for tag, _ in shown.tags if tag == "img"]
    assert not [attrs for _, attrs in shown.tags if any(name.startswith("on") for name in attrs)]
    assert sum(tag == "script" for tag, _ in shown.tags) == len(shown.figures) + 2
    assert shown.text.count("{{7*7}}") > 5  # shown as it is, not worked out
    drawn = json.dumps(list(shown.figures.values()))
    assert "<img" not in drawn  # plotly.js reads some HTML in its texts
    assert "%{x}&" not in drawn


def test_page_asks_no_address_for_anything(page, tuned, tmp_path):
    shown = page(tuned)
    policy = next(
        attrs["content"]
        for tag, attrs in shown.tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    for tag, attrs in shown.tags:
        assert "src" not in attrs, tag
        assert (attrs.get("href") or "#").startswith("#")
    assert "://" not in json.dumps(list(shown.figures.values()))


def test_large_study_is_capped_and_says_so(page):
    rng = np.random.default_rng(0)
    study = optuna.create_study()
    ranges = {name: FloatDistribution(0.0, 1.0) for name in "abcdefghijklm"}
    trials = []
    for _ in range(2200):
        params = dict(zip(ranges, rng.random(13), strict=True))
        reports = {step: float(rng.random()) for step in range(3)}
        trials.append(
            create_trial(
                value=params["a"],
                params=params,
                distributions=ranges,
                intermediate_values=reports,
            )
        )
    study.add_trials(trials)
    shown = page(study)
    assert "Shows 2,000 of 2,200 complete trials" in shown.text
    assert "12 of 13 parameters" in shown.text
    assert len(shown.figures["parallel-coordinates"]["data"]) <= 300
    assert len(shown.figures["slice-0"]["data"][0]["x"]) <= 501
    assert len(json.dumps(shown.figures)) < 3_000_000
    best = shown.figures["history"]["data"][1]["y"][-1]
    assert best == pytest.approx(study.best_value)


class ReadOnly(InMemoryStorage):
    """A storage that refuses to be written to, once it is closed."""

    closed = False

    def __getattribute__(self, name):
        writes = name.startswith(("set_", "create_", "delete_"))
        if writes and object.__getattribute__(self, "closed"):
            raise AssertionError(f"a report has called {name}")
        return super().__getattribute__(name)


def test_report_writes_nothing_to_the_study(page):
    storage = ReadOnly()
    study = study_of([0.3, 0.2, 0.5, 0.1] * 5, storage=storage)
    storage.closed = True
    assert "Leaderboard" in page(study).text


def test_report_is_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(study_of([1.0]), path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["report.html"]


def test_report_returns_its_path(tmp_path):
    assert write_report(study_of([1.0]), str(tmp_path / "a.html")) == tmp_path / "a.html"


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="in a folder that exists"):
        write_report(study_of([1.0]), tmp_path / "no" / "report.html")
    with pytest.raises(InvalidType, match="got int"):
        write_report(3, tmp_path / "report.html")
    with pytest.raises(InvalidArgument, match="'svg'"):
        write_images(study_of([1.0]), tmp_path, format="gif")


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_missing_package_names_the_extra(tmp_path, monkeypatch, package):
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'hpolab\[report\]'"):
        write_report(study_of([1.0, 2.0]), tmp_path / "report.html")


@pytest.mark.parametrize(
    ("direction", "values", "outside"),
    [
        ("minimize", [1.0, 1.1, 1.2, 1.3, 900.0], 1),
        ("maximize", [1.0, 1.1, 1.2, 1.3, -900.0], 1),
        ("maximize", [1.0, 1.1, 1.2, 1.3, 900.0], 0),  # the best one is never cut off
        ("minimize", [1.0, 1.1, 1.2, 1.3], 0),
    ],
)
def test_far_worse_values_are_outside_the_picture(direction, values, outside):
    shown = plots.view(values, maximize=direction == "maximize")
    assert shown.n_outside == outside
    if outside:
        assert shown.low < min(sorted(values, key=abs)[:4])


def test_slice_of_a_decay_rate_runs_in_trainer_units(tuned):
    from hpolab.report.figures import draw_slice

    reading = read(tuned)
    shown = plots.slice_of(reading, "one_minus_beta2")
    assert shown.axis == plots.Axis("beta2", log=True, one_minus=True)
    axis = draw_slice(shown)["layout"]["xaxis"]
    assert axis["autorange"] == "reversed"
    assert all(
        float(text) == pytest.approx(1 - value)
        for value, text in zip(axis["tickvals"], axis["ticktext"], strict=True)
    )
    assert len(axis["tickvals"]) >= 2


@pytest.mark.parametrize(("n_choices", "angle"), [(3, 0), (9, -40)])
def test_names_that_would_run_into_each_other_stand_at_a_slant(n_choices, angle):
    from hpolab.report.figures import draw_slice

    rows = [{"optimizer": f"name-{i}", "y": i} for i in range(n_choices)]
    reading = read(import_runs(rows, study_name="many", value="y", direction="maximize"))
    axis = draw_slice(plots.slice_of(reading, "optimizer"))["layout"]["xaxis"]
    assert axis["tickangle"] == angle


def test_pruned_curves_are_told_from_complete_ones(tuned):
    shown = plots.curves(read(tuned))
    kinds = {curve.number: curve.kind for curve in shown.curves}
    assert kinds[0] == "baseline"
    assert kinds[tuned.best_trial.number] == "best"
    for trial in tuned.trials:
        if trial.state == TrialState.PRUNED and trial.intermediate_values:
            assert kinds[trial.number] == "pruned"


def test_parameters_that_most_contenders_tune_come_first(comparison):
    readings = {name: read(each.study) for name, each in comparison.contenders.items()}
    names = plots.tuned_parameters(readings)
    assert set(names[:3]) == {"lr", "hidden", "activation"}
    assert {"beta1", "beta2"} <= set(names[3:])
    shown = plots.slice_of_many(comparison, readings, "lr")
    assert [series.name for series in shown.series] == ["adam", "sgd"]
    own = plots.slice_of_many(comparison, readings, "beta1")
    assert [series.name for series in own.series] == ["adam"]


def test_best_trial_of_each_contender_is_drawn_by_step(comparison):
    readings = {name: read(each.study) for name, each in comparison.contenders.items()}
    shown = plots.best_curves(comparison, readings)
    for series, name in zip(shown.series, ["adam", "sgd"], strict=True):
        best = comparison.contenders[name].study.best_trial
        assert series.name == name
        assert series.y == [best.intermediate_values[step] for step in range(8)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (math.nan, "NaN"),
        (-math.inf, "-\N{INFINITY}"),
        (3, "3"),
        ("a" * 99, None),
    ],
)
def test_values_are_short(value, text):
    assert short(value) == text or (text is None and len(short(value)) == 80)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (1e-3, 5e-3, "\N{MULTIPLICATION SIGN} 5"),
        (4, 1, "\N{DIVISION SIGN} 4"),
        (1, True, "changed"),
    ],
)
def test_change_is_said_by_a_factor_where_it_is_large(before, after, words):
    assert change(before, after) == words


def test_images_are_written_one_a_figure(tmp_path):
    pytest.importorskip("kaleido")
    if not any(
        os.access(path, os.X_OK) for path in ("/usr/bin/chromium", "/usr/bin/google-chrome")
    ):
        pytest.skip("kaleido needs a Chrome or Chromium, which is not installed")
    written = write_images(study_of([0.3, 0.1, 0.2]), tmp_path / "images")
    assert "history.svg" in [path.name for path in written]
    assert all(path.read_bytes().startswith(b"<svg") for path in written)


def test_space_without_its_trials_is_still_reported(page):
    space = SearchSpace({"x": (0.0, 1.0)})
    study = make_study("later", storage=InMemoryStorage(), search_space=space)
    study.add_trial(create_trial(value=1.0))  # of an earlier space, without x
    assert "Leaderboard" in page(study).text
