"""Every public object is short and readable as text, as a `repr` and in a notebook.

There is an example of each that a user leaves as the last line of a cell, made as a user makes it.
A new public class joins `made_examples`, or `NOT_SHOWN` with a reason.
"""

from __future__ import annotations

import html.parser
import inspect
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression

import hpolab
from hpolab import (
    ArtifactCache,
    AutoSampler,
    CheckpointFolder,
    Features,
    FunctionObjective,
    HalvingPruner,
    Interactions,
    LightGBMObjective,
    LocalProcesses,
    ManualSampler,
    Objective,
    Prior,
    RacingPruner,
    RankingTask,
    RatingTask,
    RayExecutor,
    RecommenderObjective,
    Reporter,
    ReporterSettings,
    SearchSpace,
    SklearnObjective,
    StagedObjective,
    StepwiseSampler,
    TorchObjective,
    check_storage,
    compare,
    compare_across,
    confirm,
    fold_ensemble,
    influence,
    leave_last_out,
    make_study,
    make_taste_clusters,
    optimizer_space,
    recommend,
    run,
    split_four,
    study_overview,
    sweep,
)
from hpolab.display import Displayed

if TYPE_CHECKING:
    from pathlib import Path

    import optuna

NOT_SHOWN = {
    "Reporter": "lives within a training",
    "TrainedEpoch": "handed to a function within a training",
    "Executor": "abstract",
    "Objective": "abstract",
    "RecommenderTrainer": "abstract",
    "RecommenderTraining": "abstract",
    "ReporterOptions": "the keywords of a function, for type checkers",
    "LightGBMPruning": "a callback, handed to LightGBM",
    "LightningPruningCallback": "a callback, handed to Lightning",
    "MLflowTracker": "its settings in a line, as any dataclass",
    "TensorBoardTracker": "its settings in a line, as any dataclass",
    "WandbTracker": "its settings in a line, as any dataclass",
    "Tracker": "abstract",
    "TrialRun": "abstract",
    "TrackedStudy": "handed to a tracker",
    "TrackedTrial": "handed to a tracker",
    "TrialEnd": "handed to a tracker",
    "StudyEnd": "handed to a tracker",
}


def public_classes() -> dict[str, type]:
    """Return the public classes that are no errors, by name."""
    found = {name: getattr(hpolab, name) for name in hpolab.__all__}
    return {
        name: each
        for name, each in found.items()
        if inspect.isclass(each) and not issubclass(each, Exception)
    }


class Noisy(Objective):
    """A value that depends on two parameters and a seed; its model is the value."""

    def train(self, params: Any, reporter: Reporter) -> float:
        for step in range(self.max_steps):
            reporter.report(self.fit(params, reporter.seed) + 3 - step, step)
        return self.fit(params, reporter.seed)

    def fit(self, params: Any, seed: int = 0) -> float:
        params = self.search_space.complete(params)
        noise = np.random.default_rng(seed).normal(scale=0.01)
        return float((np.log10(params["lr"]) + 2) ** 2 + params["beta1"] + noise)

    def evaluate(self, model: float, data: Any) -> dict[str, float]:
        return {"rmse": model}


def noisy(**settings: Any) -> Noisy:
    """Return an objective that any study can use."""
    space = SearchSpace({"lr": (1e-4, 1.0, "log"), "beta1": (0.5, 0.99)}, one_minus=["beta1"])
    return Noisy(search_space=space, metric="rmse", direction="minimize", max_steps=3, **settings)


def tuned_study(url: str, name: str = "tuned", n_trials: int = 25) -> optuna.Study:
    """Return a study of `noisy` with its trials."""
    objective = noisy()
    study = make_study(name, storage=url, objective=objective, sampler="random", seed=0)
    run(study, objective, n_trials=n_trials)
    return study


def made_examples(folder: Path) -> dict[str, Any]:
    """Return name -> object, for every public class that is shown."""
    url = f"sqlite:///{folder}/shown.db"
    return {
        **_of_studies(url),
        **_of_recommenders(),
        **_of_trainers(folder),
        **_of_settings(folder, url),
    }


def _of_studies(url: str) -> dict[str, Any]:
    objective, study = noisy(), tuned_study(url)
    confirmation = confirm(study, objective, test=np.arange(3.0), n_seeds=4)
    sides = {
        "wide": objective.search_space,
        "slow": SearchSpace({"lr": (1e-4, 1e-3, "log"), "beta1": 0.9}),
    }
    comparisons = {
        name: compare(
            objective,
            sides,
            study_name=name,
            storage=url,
            n_trials=6,
            n_repeats=2,
            test=np.arange(3.0),
            sampler="random",
            seed=place,
        )
        for place, name in enumerate(("first", "second"))
    }
    comparison = comparisons["first"]
    stages = {"rate": {"lr": [1e-3, 1e-2, 1e-1]}, "momentum": {"beta1": [0.6, 0.9]}}
    swept = sweep(objective, stages, study_name="swept", storage=url)
    recommendation = recommend(study)
    return {
        "AcrossDataSets": compare_across(comparisons),
        "Comparison": comparison,
        "Confirmation": confirmation,
        "Configuration": confirmation.configurations[0],
        "Contender": comparison.contenders["wide"],
        "Effect": confirmation.configurations[0].improvement,
        "Influence": influence(study, n_resamples=60),
        "Outperforming": next(iter(comparison.outperforming().values())),
        "Recommendation": recommendation,
        "Recommended": recommendation.best,
        "Sweep": swept,
        "StudyOverview": study_overview(study),
        "SweepStage": swept.stages[0],
        "SweepTrial": swept.stages[0].trials[0],
        "TuningCurve": comparison.tuning_curve("wide"),
        "Ensemble": _ensemble(),
    }


def _ensemble() -> Any:
    rng = np.random.default_rng(0)
    inputs, truth = rng.normal(size=(80, 1)), np.linspace(-1, 1, 50)
    targets = inputs[:, 0] + rng.normal(size=80)

    def fit(params: Any, seed: int, rows: Any) -> Any:
        noise = np.random.default_rng(seed).normal(scale=params["noise"], size=50)
        return truth * (inputs[rows, 0] @ targets[rows]) / (inputs[rows, 0] ** 2).sum() + noise

    def error(predictions: Any) -> float:
        return float(((predictions - truth) ** 2).mean())

    return fold_ensemble(
        fit, params={"noise": 0.5}, metric=error, direction="minimize", n_rows=80, n_seeds=3
    )


def _of_recommenders() -> dict[str, Any]:
    tastes = make_taste_clusters(n_users=60, n_items=40, seed=0)
    data = tastes.interactions
    days = np.datetime64("2024-01-01") + np.arange(len(data)) % 90
    dated = Interactions.of(data.users, data.items, timestamps=days)
    splits = leave_last_out(dated)
    objective = RecommenderObjective("ease", splits, metric="ndcg@10")
    task = RankingTask(seen=splits.train, held_out=splits.valid)
    rng = np.random.default_rng(0)
    ranking = task.rank(lambda users: rng.normal(size=(len(users), dated.n_items)))
    rated = replace(dated, ratings=rng.integers(1, 6, len(dated)).astype(float))
    rating_task = RatingTask(held_out=rated)
    return {
        "RatingTask": rating_task,
        "RatingErrors": rating_task.errors(lambda users, items: np.full(len(users), 3.0)),
        "TasteClusters": tastes,
        "Interactions": dated,
        "Splits": splits,
        "Features": _features(),
        "RecommenderObjective": objective,
        "Recommender": objective.fit({"l2": 10.0}),
        "RankingTask": task,
        "Ranking": ranking,
        "RankingEstimate": ranking.estimate("ndcg@10"),
    }


def _features() -> Features:
    films = {"film": [9, 7], "genre": [["war"], ["war", "drama"]], "year": [1999, 2001]}
    return Features.of([7, 9], films, id_column="film")


def _of_trainers(folder: Path) -> dict[str, Any]:
    frame, labels = load_diabetes(return_X_y=True, as_frame=True)
    boosted = LightGBMObjective(
        frame, labels, folds=3, objective="regression", metric="rmse", max_rounds=10
    )
    rows = torch.linspace(-1, 1, 90).reshape(-1, 1)
    data = {"train": (rows[::2], 3 * rows[::2]), "valid": (rows[1::2], 3 * rows[1::2])}
    folds = boosted.fit_folds({})
    staged = _staged()
    study = make_study("staged", storage="memory://", objective=staged, seed=0)
    run(study, staged, n_trials=2)
    return {
        "LightGBMObjective": boosted,
        "FoldModels": folds,
        "LightGBMModel": folds.models[0],
        "SklearnObjective": SklearnObjective(
            LogisticRegression(max_iter=2000),
            *load_breast_cancer(return_X_y=True),
            metric="roc_auc",
        ),
        "TorchObjective": TorchObjective(
            lambda params: torch.nn.Linear(1, 1),
            **data,
            search_space=optimizer_space("adam"),
            loss="mse",
            metric="rmse",
            max_epochs=3,
        ),
        "FunctionObjective": FunctionObjective(
            lambda params, reporter: params["x"],
            search_space={"x": (0.0, 1.0)},
            metric="error",
            direction="minimize",
            max_steps=1,
        ),
        "StagedObjective": staged,
        "Staged": staged.fit_best(study),
        "Tuned": staged.tune(study),
        "FourSplits": split_four(
            (frame.to_numpy(), labels.to_numpy()), n_train=300, n_valid=50, n_score=50, n_test=42
        ),
    }


def _staged() -> StagedObjective:
    truth = np.arange(200) % 2
    parts = {"tune": slice(0, 100), "score": slice(100, 200)}

    def train(params: Any, reporter: Reporter) -> Any:
        noise = np.random.default_rng(reporter.seed).normal(size=200)
        return truth + params["noise"] * noise

    def score(predictions: Any, post_params: Any, part: str) -> float:
        found = predictions[parts[part]] > post_params["threshold"]
        return float((found == truth[parts[part]]).mean())

    return StagedObjective(
        train,
        score,
        search_space=SearchSpace({"noise": (0.1, 1.0)}),
        post_space=SearchSpace({"threshold": (-1.0, 2.0)}, defaults={"threshold": 0.0}),
        direction="maximize",
        max_steps=1,
        n_post_trials=5,
    )


def _of_settings(folder: Path, url: str) -> dict[str, Any]:
    sampler = make_study("sampled", storage=url).sampler
    promises = check_storage(url)
    return {
        "ArtifactCache": ArtifactCache(folder / "cache"),
        "CheckpointFolder": CheckpointFolder(folder / "checkpoints"),
        "LocalProcesses": LocalProcesses(4),
        "RayExecutor": RayExecutor(n_workers=8, gpus_per_worker=0.25),
        "ManualSampler": ManualSampler(),
        "TrialSeededSampler": sampler,
        "StepwiseSampler": StepwiseSampler(stages=[("lr", 3, "grid"), ("beta1", 2)]),
        "AutoSampler": AutoSampler(seed=1),
        "Prior": Prior(1e-3, 3.0, "a paper"),
        "HalvingPruner": HalvingPruner(),
        "RacingPruner": RacingPruner(),
        "ReporterSettings": ReporterSettings(),
        "Promise": promises.process_kill,
        "StoragePromises": promises,
        "SearchSpace": noisy().search_space,
    }


SHOWN = sorted(set(public_classes()) - NOT_SHOWN.keys())


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return made_examples(tmp_path_factory.mktemp("shown"))


def shown_in_a_notebook(example) -> str:
    """Return what a notebook shows as the last line of a cell."""
    as_html = getattr(example, "_repr_html_", None)
    return repr(example) if as_html is None else as_html()


def test_every_public_class_has_an_example_or_a_reason(examples):
    assert set(examples) == set(SHOWN)
    for name, example in examples.items():
        assert type(example) is getattr(hpolab, name)


@pytest.mark.parametrize("name", SHOWN)
def test_a_repr_is_a_line_or_a_few_that_name_the_class(name, examples):
    shown = repr(examples[name])
    assert name in shown
    assert " at 0x" not in shown
    assert len(shown) < 1000
    assert len(shown) < 300 or name == "SearchSpace"


@pytest.mark.parametrize("name", SHOWN)
def test_text_is_readable(name, examples):
    shown = str(examples[name])
    assert shown.strip()
    assert " at 0x" not in shown
    assert "array(" not in shown
    assert len(shown) < 4000
    assert shown.isprintable() or "\n" in shown
    # Of a number that was measured nobody needs sixteen digits.
    if isinstance(examples[name], Displayed):
        assert not re.search(r"\d\.\d{9}", shown)


class Reader(html.parser.HTMLParser):
    """Reads what a notebook is given, and keeps the tags that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.styles: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.styles += [value or "" for name, value in attrs if name == "style"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.styles.append(data)
        else:
            self.text += data


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_shows_well_formed_html_in_its_own_colors(name, examples):
    shown = shown_in_a_notebook(examples[name])
    assert len(shown) < 20_000
    if shown.startswith("<p") or shown.startswith("<s") or shown.startswith("<d"):
        reader = Reader()
        reader.feed(shown)
        assert reader.open == []
        assert reader.text.strip()
        assert not any("color" in style for style in reader.styles)
        # What does not fit into the cell scrolls in it.
        assert ("<table>" in shown) == ("overflow-x: auto" in shown)


class Hostile(Displayed):
    """A value that holds what a user may have called something."""

    def _in_one_line(self):
        return "<script>alert(1)</script>\n\x1b[2J" + "x" * 5000


def test_what_users_have_named_is_text():
    assert "<script>" not in Hostile()._repr_html_()
    assert "\x1b" not in str(Hostile())
    assert "\x1b" not in repr(Hostile())


def test_a_repr_is_cut():
    shown = repr(Hostile())
    assert "\n" not in shown
    assert len(shown) < 250
    assert shown.endswith("…>")
