"""Studies, a confirmation and a comparison to report, made once."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from hpolab import (
    Objective,
    SearchSpace,
    compare,
    confirm,
    make_study,
    optimizer_space,
    run,
    sweep,
    write_report,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hpolab import Comparison, Confirmation, Reporter, Sweep

SPACE = optimizer_space("adamw") | SearchSpace(
    {"hidden": (16, 128), "activation": ["relu", "tanh"]}
)


class Curve(Objective):
    """Reports a curve that rises to a level, which depends on lr and on the seed's noise."""

    facts: ClassVar[dict[str, str]] = {"data": "made up"}

    def __init__(self, search_space: SearchSpace = SPACE) -> None:
        super().__init__(
            search_space=search_space, metric="accuracy", direction="maximize", max_steps=8
        )

    def level(self, params: Mapping[str, Any], seed: int) -> float:
        noise = np.random.default_rng([seed, int(1e9 * params["lr"])]).normal(scale=0.003)
        return 0.95 - 0.05 * math.log10(params["lr"] / 3e-3) ** 2 + noise

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        if reporter.trial is not None and reporter.trial.number == 7:
            raise RuntimeError("CUDA error: <device-side> assert & triggered")
        level = self.level(params, reporter.seed)
        for step in reporter.steps(self.max_steps):
            diverged = params["lr"] > 9e-3
            reporter.report(math.nan if diverged else level * (1 - 0.5 ** (step + 1)), step)
        reporter.record(accuracy=level, loss=1 - level)
        return level

    def fit(self, params: Mapping[str, Any], seed: int) -> Any:
        return params, seed

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        return {"accuracy": self.level(*model) - 0.01}


@pytest.fixture(scope="session")
def tuned() -> optuna.Study:
    """A study of 30 trials, some pruned, one failed, with its confirmation in its storage."""
    objective = Curve()
    # Under an object of its own, so that no other test shares its storage.
    study = make_study("curve", storage=InMemoryStorage(), objective=objective, pruner=None)
    run(study, objective, n_trials=30, show_progress_bar=False)
    confirm(study, objective, test=None, top_k=3, n_seeds=6, show_progress_bar=False)
    return study


@pytest.fixture(scope="session")
def confirmation(tuned: optuna.Study) -> Confirmation:
    """Its confirmation."""
    return confirm(tuned, Curve(), test=None, top_k=3, n_seeds=6, show_progress_bar=False)


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    """Two optimizers, twelve trials each."""
    return compare(
        Curve(),
        ["adam", "sgd"],
        n_trials=12,
        storage=InMemoryStorage(),
        study_name="optimizers",
        test=0,
        show_progress_bar=False,
    )


@pytest.fixture(scope="session")
def swept() -> Sweep:
    """A sweep of four stages: a choice, numbers, a setting, and two parameters at once."""
    stages = {
        "activation": {"activation": ["relu", "tanh"]},
        "learning rate": {"lr": [1e-4, 1e-3, 3e-3, 8e-3]},
        "epochs": {"max_steps": [4, 8]},
        "size and decay": {"hidden": [16, 64], "weight_decay": [1e-3, 1e-2]},
    }
    return sweep(
        Curve(), stages, storage=InMemoryStorage(), study_name="by hand", show_progress_bar=False
    )


HOSTILE = "</script><img src=x onerror=\"alert('x')\">%{x}&amp;{{7*7}}"


@pytest.fixture
def hostile() -> optuna.Study:
    """A study whose names and texts are hostile wherever a user may write one."""
    study = optuna.create_study(study_name=f"study {HOSTILE}", direction="maximize")
    distributions = {
        f"number {HOSTILE}": FloatDistribution(0.0, 1.0),
        f"choice {HOSTILE}": CategoricalDistribution([f"a {HOSTILE}", f"b {HOSTILE}"]),
    }
    number, choice = distributions
    for i in range(12):
        study.add_trial(
            create_trial(
                value=float(i % 7),
                params={number: i / 12, choice: distributions[choice].choices[i % 2]},
                distributions=distributions,
                intermediate_values={0: 0.1, 1: float(i)},
                user_attrs={"hpolab:metrics": {f"metric {HOSTILE}": 0.5}},
            )
        )
    study.add_trial(
        create_trial(state=TrialState.FAIL, user_attrs={"hpolab:error": f"error {HOSTILE}"})
    )
    return study


@pytest.fixture
def curve() -> Curve:
    """The objective of the studies here."""
    return Curve()


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


def _study_of(values, direction="minimize", **settings) -> optuna.Study:
    """Return a study of complete trials with one parameter."""
    study = optuna.create_study(direction=direction, study_name="plain", **settings)
    x = FloatDistribution(0.0, 1.0)
    for place, value in enumerate(values):
        params = {"x": (place + 0.5) / (len(values) + 1)}
        study.add_trial(create_trial(value=value, params=params, distributions={"x": x}))
    return study


@pytest.fixture
def study_of() -> Callable[..., optuna.Study]:
    """Returns a study of complete trials with these values and one parameter."""
    return _study_of
