"""plot_*: what each takes, what its axes are called, and what it refuses."""

from __future__ import annotations

import builtins
import json

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest

import hpolab
from hpolab import (
    InvalidArgument,
    InvalidType,
    MissingExtra,
    Objective,
    SearchSpace,
    compare,
    confirm,
    influence,
    make_study,
    plot_confirmation,
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_pareto_front,
    plot_slice,
    plot_test_scores,
    plot_tuning_curves,
    run,
    sweep,
)

ALL = [getattr(hpolab, name) for name in hpolab.__all__ if name.startswith("plot_")]


class Noisy(Objective):
    """A value that depends on two parameters and a seed; its model is the value."""

    def train(self, params, reporter):
        for step in range(self.max_steps):
            reporter.report(self.fit(params, reporter.seed) + 3 - step, step)
        return self.fit(params, reporter.seed)

    def fit(self, params, seed=0):
        params = self.search_space.complete(params)
        noise = np.random.default_rng(seed).normal(scale=0.01)
        return float((np.log10(params["lr"]) + 2) ** 2 + params["beta1"] + noise)

    def evaluate(self, model, data):
        return {"rmse": model}


@pytest.fixture(scope="module")
def objective():
    space = SearchSpace({"lr": (1e-4, 1.0, "log"), "beta1": (0.5, 0.99)}, one_minus=["beta1"])
    return Noisy(search_space=space, metric="rmse", direction="minimize", max_steps=3)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('plots')}/p.db"


@pytest.fixture(scope="module")
def study(objective, url):
    made = make_study(
        "tuned <b>", storage=url, objective=objective, sampler="random", pruner="none", seed=0
    )
    run(made, objective, n_trials=30)
    return made


@pytest.fixture(scope="module")
def comparison(objective, url):
    sides = {
        "wide": objective.search_space,
        "slow": SearchSpace({"lr": (1e-4, 1e-3, "log"), "beta1": 0.9}),
    }
    return compare(
        objective,
        sides,
        study_name="sides",
        storage=url,
        n_trials=6,
        n_repeats=2,
        test=np.arange(3.0),
        sampler="random",
        pruner="none",
    )


@pytest.fixture(scope="module")
def front():
    made = optuna.create_study(study_name="two", directions=["minimize", "maximize"])
    made.set_metric_names(["loss", "accuracy"])
    made.optimize(lambda t: (t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)), n_trials=9)
    return made


def texts(figure: go.Figure) -> str:
    """Return all that is written in a figure."""
    return json.dumps(json.loads(figure.to_json()))


def names_of(figure: go.Figure) -> set[str]:
    return {trace.name for trace in figure.data if trace.name}


def test_history_of_a_study_has_its_metric_and_its_best_line(study):
    figure = plot_optimization_history(study)
    assert isinstance(figure, go.Figure)
    assert figure.layout.yaxis.title.text == "rmse (minimized)"
    values = [trial.value for trial in study.trials]
    drawn = next(trace for trace in figure.data if trace.name == "trial")
    assert list(drawn.y) == pytest.approx(values)
    best = next(trace for trace in figure.data if trace.name == "best so far")
    assert min(best.y) == pytest.approx(study.best_value)
    # The user's own text stays text.
    assert figure.layout.title.text == "tuned &lt;b&gt;: history"


def test_history_of_a_comparison_has_all_trials_of_each_contender(comparison):
    figure = plot_optimization_history(comparison)
    assert figure.layout.yaxis.title.text == "rmse (minimized)"
    dots = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
    assert {name: len(trace.y) for name, trace in dots.items()} == {"wide": 6, "slow": 6}
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines" and trace.name}
    assert set(lines) == {"wide", "slow"}
    for name, dot in dots.items():
        assert dot.marker.color == lines[name].line.color


def test_history_of_a_sweep_goes_stage_after_stage(objective, url):
    stages = {"rate": {"lr": [1e-3, 1e-2]}, "momentum": {"beta1": [0.6, 0.9]}}
    figure = plot_optimization_history(sweep(objective, stages, study_name="swept", storage=url))
    assert {"rate", "momentum"} <= names_of(figure)
    assert figure.layout.yaxis.title.text == "rmse (minimized)"


def test_slices_have_the_trainers_names_and_values(study):
    figure = plot_slice(study)
    assert [figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text] == ["lr", "beta1"]
    assert figure.layout.yaxis.title.text == "rmse"
    assert "one_minus" not in texts(figure)
    (only,) = [trace for trace in plot_slice(study, ["beta1"]).data if trace.customdata is not None]
    said = [float(text) for text in only.text]
    stored = [1 - trial.params["one_minus_beta1"] for trial in study.trials]
    assert said == pytest.approx(stored, rel=1e-3)


def test_slices_of_a_comparison_have_a_color_each(comparison):
    figure = plot_slice(comparison)
    assert {"wide", "slow"} <= names_of(figure)
    assert "one_minus" not in texts(figure)


def test_panels_of_a_grid_do_not_overlap(study, objective):
    space = objective.search_space | SearchSpace({f"p{i}": (0.0, 1.0) for i in range(5)})
    many = objective.with_search_space(space)
    wide = make_study("wide", storage="memory://", objective=many, sampler="random", pruner="none")
    run(wide, many, n_trials=4)
    layout = plot_slice(wide).layout
    panels = [(layout[f"xaxis{n}"].domain, layout[f"yaxis{n}"].domain) for n in ["", *range(2, 8)]]
    for place, (x, y) in enumerate(panels):
        assert 0 <= x[0] < x[1] <= 1
        assert 0 <= y[0] < y[1] <= 1
        for other_x, other_y in panels[:place]:
            apart = x[1] <= other_x[0] or other_x[1] <= x[0] or y[1] <= other_y[0]
            assert apart or other_y[1] <= y[0]


def test_intermediate_values_are_what_trials_reported(study, comparison):
    figure = plot_intermediate_values(study)
    assert figure.layout.yaxis.title.text == "reported rmse"
    assert figure.layout.xaxis.title.text == "step"
    best = next(trace for trace in figure.data if trace.name == "best")
    reported = study.best_trial.intermediate_values
    assert [y for y in best.y if y is not None] == pytest.approx(list(reported.values()))
    assert {"wide", "slow"} == names_of(plot_intermediate_values(comparison))


@pytest.mark.parametrize("of", [lambda study: study, lambda study: influence(study)])
def test_importances_have_the_trainers_names(of, study):
    (bars,) = plot_param_importances(of(study)).data
    assert set(bars.y) == {"lr", "beta1"}
    by_name = dict(zip(bars.y, bars.x, strict=True))
    assert by_name["lr"] > by_name["beta1"]


def test_parallel_coordinates_begin_with_the_metric(study):
    figure = plot_parallel_coordinate(study)
    assert list(figure.layout.xaxis.ticktext) == ["rmse", "lr", "1 - beta1"]


def test_a_front_has_both_metrics(front):
    figure = plot_pareto_front(front)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("loss", "accuracy")
    marked = next(trace for trace in figure.data if trace.name == "Pareto front")
    assert sorted(marked.customdata) == [trial.number for trial in front.best_trials]


def test_tuning_curves_have_bands(comparison):
    figure = plot_tuning_curves(comparison)
    assert figure.layout.yaxis.title.text == "best rmse (minimized)"
    assert sum(trace.fill == "tonexty" for trace in figure.data) == 2


def test_test_scores_of_each_contender(comparison):
    figure = plot_test_scores(comparison)
    assert figure.layout.xaxis.title.text == "rmse on the test data"
    assert set(figure.data[0].y) == {"wide", "slow"}


def test_a_confirmation_shows_improvements_with_intervals(study, objective):
    confirmation = confirm(study, objective, test=np.arange(3.0), top_k=2, n_seeds=3)
    figure = plot_confirmation(confirmation)
    assert "rmse" in figure.layout.xaxis.title.text
    estimates = [each.improvement.estimate for each in confirmation.configurations]
    shown = [x for trace in figure.data for x in trace.x]
    for estimate in estimates:
        assert any(x == pytest.approx(estimate, rel=1e-6) for x in shown)


def test_every_plot_is_readable_on_a_dark_page(study, comparison, front):
    drawn = [
        plot_optimization_history(study),
        plot_slice(study),
        plot_param_importances(study),
        plot_tuning_curves(comparison),
        plot_pareto_front(front),
    ]
    for figure in drawn:
        assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.font.color not in ("#000000", "#ffffff", None)


@pytest.mark.parametrize("plot", ALL)
@pytest.mark.parametrize("source", ["tuned.db", None, 3, {"study": 1}])
def test_another_type_is_refused_with_what_is_taken(plot, source):
    with pytest.raises(InvalidType, match=r"`source` must be a .*, got (str|NoneType|int|dict)"):
        plot(source)


@pytest.mark.parametrize(
    "plot",
    [plot_optimization_history, plot_slice, plot_param_importances, plot_parallel_coordinate],
)
def test_a_study_without_a_complete_trial_is_refused(plot):
    with pytest.raises(InvalidArgument, match="must have a complete trial"):
        plot(optuna.create_study(study_name="empty"))


def test_what_cannot_be_drawn_says_so(study, front, url, objective):
    with pytest.raises(InvalidArgument, match="plot_pareto_front"):
        plot_optimization_history(front)
    with pytest.raises(InvalidArgument, match="two objective values"):
        plot_pareto_front(study)
    with pytest.raises(InvalidArgument, match="Did you mean 'beta1'"):
        plot_slice(study, ["beta_1"])
    with pytest.raises(InvalidType, match="list of names"):
        plot_slice(study, "beta1")
    silent = optuna.create_study()
    silent.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    with pytest.raises(InvalidArgument, match="with reports"):
        plot_intermediate_values(silent)
    with pytest.raises(InvalidArgument, match="two parameters"):
        plot_parallel_coordinate(silent)


def test_without_plotly_the_error_names_the_extra(study, monkeypatch):
    found = builtins.__import__

    def without_plotly(name, *args, **kwargs):
        if name.partition(".")[0] == "plotly":
            raise ModuleNotFoundError("No module named 'plotly'", name="plotly")
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_plotly)
    with pytest.raises(MissingExtra, match=r"hpolab\[report\]"):
        plot_optimization_history(study)


def test_a_plain_study_of_optuna_works():
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=4)
    assert plot_optimization_history(study).layout.yaxis.title.text == "value (minimized)"
    assert plot_slice(study).layout.xaxis.title.text == "x"
