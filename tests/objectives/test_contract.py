"""The contract of objectives, a row a family: what each promises, tried on all of them alike."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import fbeta_score, make_scorer
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hpolab import (
    EXTRA_OPTIMIZERS,
    FunctionObjective,
    LightGBMObjective,
    Objective,
    RecipeMismatch,
    RecommenderObjective,
    SearchSpace,
    SklearnObjective,
    StagedObjective,
    TorchObjective,
    build_optimizer,
    leave_last_out,
    lightgbm_space,
    make_study,
    make_taste_clusters,
    optimizer_space,
    run,
    schedule_space,
)
from hpolab.testing import ObjectiveContract

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab import Reporter

SPACE = SearchSpace(
    {"lr": FloatDistribution(1e-3, 1e-1, log=True), "momentum": (0.5, 0.99), "steps": 3},
    one_minus=["momentum"],
)


def descend(params: Mapping[str, Any], reporter: Reporter) -> list[float]:
    """Noisy descent on w**2 with momentum; returns the best weight and its metric."""
    rng = np.random.default_rng(reporter.seed)
    saved = reporter.restore()
    weight, speed, best = (5.0, 0.0, 5.0) if saved is None else json.loads(saved)[:3]
    if saved is not None:
        rng.bit_generator.state = json.loads(saved)[3]
    for step in reporter.steps(4):
        speed = params["momentum"] * speed - params["lr"] * (2 * weight + rng.normal())
        weight += speed
        state = [weight, speed, best, rng.bit_generator.state]

        def to_bytes(weight: float = weight, state: list[Any] = state) -> bytes:
            state[2] = weight if reporter.improved else state[2]
            return json.dumps(state).encode()

        reporter.report(weight**2, step, state=to_bytes)
        best = weight if reporter.improved else best
    return [best, best**2]


class Descent(Objective):
    """A user's own objective."""

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        return descend(params, reporter)[1]

    def fit(self, params: Mapping[str, Any], seed: int = 0) -> float:
        return descend(self.search_space.complete(params), self.reporter(seed=seed))[0]

    def evaluate(self, model: float, data: float) -> dict[str, float]:
        return {"distance": abs(model - data), "square": (model - data) ** 2}


class TestDescent(ObjectiveContract):
    value_is_of_data = True

    def objective(self, noise: str = "normal") -> Objective:
        made = Descent(search_space=SPACE, metric="square", direction="minimize", max_steps=4)
        made.facts = {"noise": noise}
        return made

    def others(self) -> list[Objective]:
        return [self.objective("uniform")]

    def data(self) -> float:
        return 0.0


def noisy(params: Mapping[str, Any], reporter: Reporter) -> float:
    return descend(params, reporter)[1]


class TestFunction(ObjectiveContract):
    def objective(self, **facts: Any) -> Objective:
        return FunctionObjective(
            lambda params, reporter: descend(params, reporter)[1],
            search_space=SPACE,
            direction="minimize",
            max_steps=4,
            facts={"noise": "normal"} | facts,
        )

    def others(self) -> list[Objective]:
        named = FunctionObjective(noisy, search_space=SPACE, direction="minimize", max_steps=4)
        named.facts = self.objective().facts
        longer = self.objective()
        longer.max_steps = 5
        return [self.objective(noise="uniform"), self.objective(version=2), named, longer]


class TestFunctionThatReportsNothing(ObjectiveContract):
    def objective(self) -> Objective:
        return FunctionObjective(
            lambda params, reporter: params["lr"],
            search_space=SPACE,
            direction="maximize",
            max_steps=1,
        )


def rows(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 3, generator=generator)
    return inputs, (inputs[:, 0] + inputs[:, 1] > 0.2).long()


def build(params: Mapping[str, Any]) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 2))


class TestTorch(ObjectiveContract):
    value_is_of_data = True
    build = staticmethod(build)

    def objective(self, **options: Any) -> Objective:
        settings: dict[str, Any] = {
            "train": rows(40, 0),
            "valid": rows(30, 1),
            "score": rows(30, 2),
            "search_space": optimizer_space(["adam", "sgd"]),
            "loss": "cross_entropy",
            "metric": "loss",
            "metrics": ["accuracy"],
            "max_epochs": 4,
            "batch_size": 8,
        }
        return TorchObjective(**{"build_model": self.build} | settings | options)

    def others(self) -> list[Objective]:
        return [
            self.objective(loss=nn.MultiMarginLoss()),
            self.objective(metric=twice, direction="minimize"),
            self.objective(score=None),
            self.objective(loss=nn.CrossEntropyLoss(label_smoothing=0.1)),
            self.objective(max_epochs=5),
            self.objective(train=permuted(rows(40, 0))),
            self.objective(valid=rows(30, 3)),
        ]

    def data(self) -> Any:
        return rows(30, 2)


def permuted(data: Any) -> Any:
    return tuple(part[::-1].copy() if hasattr(part, "copy") else part.flip(0) for part in data)


def twice(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 2 * nn.functional.cross_entropy(outputs, targets)


class TestTorchOfLoaders(TestTorch):
    def objective(self, **options: Any) -> Objective:
        made = TensorDataset(*rows(40, 0))
        own = torch.Generator().manual_seed(9)
        train = DataLoader(made, batch_size=8, shuffle=True, generator=own)
        return super().objective(**{"train": train, **options})

    def others(self) -> list[Objective]:
        made = TensorDataset(*rows(40, 5))
        return [
            self.objective(train=DataLoader(made, batch_size=8, shuffle=True)),
            self.objective(train=DataLoader(TensorDataset(*rows(40, 0)), batch_size=16)),
            self.objective(train=DataLoader(TensorDataset(*rows(48, 0)), batch_size=8)),
        ]


def own_optimizer(params: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    return build_optimizer(
        params, [{"params": model[:3].parameters()}, {"params": model[3:].parameters()}]
    )


def own_schedule(
    params: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.1)


class TestTorchOfFunctions(TestTorch):
    def objective(self, **options: Any) -> Objective:
        named = {"optimizer": own_optimizer, "schedule": own_schedule, "on_epoch": repr}
        return super().objective(
            **named | {"accumulation_steps": 2, "max_grad_norm": 0.5} | options
        )


def build_of_images(params: Mapping[str, Any]) -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 32),
        nn.Unflatten(1, (2, 4, 4)),
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, 2),
    )


class TestTorchOfOptions(TestTorch):
    build = staticmethod(build_of_images)

    def objective(self, **options: Any) -> Objective:
        plateau = schedule_space("plateau", max_epochs=4, warmup=True)
        tuned = {"layer_decay": (0.5, 1.0), "max_grad_norm": (0.1, 1.0, "log")}
        named = {
            "search_space": optimizer_space(["adamw", "muon"]) | plateau | tuned,
            "decay_biases": False,
            "memory_format": "auto",
            "precision": "bf16",
        }
        return super().objective(**named | options)

    def others(self) -> list[Objective]:
        changed = {"decay_biases": True, "memory_format": "channels_last", "precision": "fp32"}
        return [self.objective(**{name: value}) for name, value in changed.items()]


class TestTorchOfExtraOptimizers(TestTorch):
    """Trial 0, which is killed, trains with the first of them."""

    name = "schedulefree_adamw"

    def objective(self, **options: Any) -> Objective:
        others = [name for name in EXTRA_OPTIMIZERS if name != self.name]
        named = {
            "search_space": optimizer_space([self.name, *others]),
            "decay_biases": False,
            "max_grad_norm": 0.5,
            "accumulation_steps": 2,
            "precision": "bf16",
        }
        return super().objective(**named | options)

    def others(self) -> list[Objective]:
        return [self.objective(decay_biases=True)]


class TestTorchOfScheduleFreeSGD(TestTorchOfExtraOptimizers):
    name = "schedulefree_sgd"


class TestTorchOfSOAP(TestTorchOfExtraOptimizers):
    name = "soap"


class TestTorchOfLion(TestTorchOfExtraOptimizers):
    name = "lion"


class TestTorchOfProdigy(TestTorchOfExtraOptimizers):
    name = "prodigy"


class TestTorchOfWeightedRows(TestTorch):
    def objective(self, **options: Any) -> Objective:
        splits = {"train": weighted(40, 0), "valid": weighted(30, 1), "score": weighted(30, 2)}
        return super().objective(**{**splits, "metrics": ["auc"], **options})

    def others(self) -> list[Objective]:
        return [self.objective(loss="nll"), self.objective(score=None)]

    def data(self) -> Any:
        return weighted(30, 2)


def weighted(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (*rows(n, seed), torch.arange(n) % 4 / 2)


class TestTorchOfDicts(TestTorch):
    def objective(self, **options: Any) -> Objective:
        splits = {"train": dicts(40, 0), "valid": dicts(30, 1), "score": dicts(30, 2)}
        settings = {**splits, "unpack": "labels", **options}
        return super().objective(**settings, build_model=lambda params: OfDicts())

    def others(self) -> list[Objective]:
        return [self.objective(loss="nll"), self.objective(train=dicts(40, 0)[:3])]

    def data(self) -> Any:
        return dicts(30, 2)


def dicts(n: int, seed: int) -> list[dict[str, torch.Tensor]]:
    inputs, labels = rows(n, seed)
    return [{"x": inputs[i::4], "labels": labels[i::4]} for i in range(4)]


class OfDicts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = build({})

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.layers(batch["x"])


class TestTorchModelOfMuchState(TestTorch):
    """Buffers that are not saved, plain attributes, and work in place."""

    def objective(self, **options: Any) -> Objective:
        return super().objective(**options, build_model=lambda params: Stateful())


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = build({})
        self.register_buffer("mean", torch.zeros(3), persistent=False)
        self.spread = torch.ones(3)
        self.n_batches = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.n_batches += 1
            self.mean = self.mean + (inputs.mean(0) - self.mean) / self.n_batches
            self.spread.mul_(0.9).add_(inputs.std(0), alpha=0.1)
        inputs -= self.mean
        inputs /= self.spread * (1 + 1 / (1 + self.n_batches))
        return self.layers(inputs)


IRIS = load_iris(return_X_y=True)
TWO = (IRIS[0][IRIS[1] > 0], IRIS[1][IRIS[1] > 0] - 1)


def negative_loss(predicted: np.ndarray, data: Any) -> tuple[str, float, bool]:
    return "binary_logloss", -1.0, False


class TestLightGBM(ObjectiveContract):
    options: Mapping[str, Any] = {"folds": 2}

    def objective(self, **options: Any) -> Objective:
        settings: dict[str, Any] = {
            "objective": "binary",
            "metric": "binary_logloss",
            "metrics": ["auc"],
            "search_space": lightgbm_space("fast").override(
                bagging_fraction=0.7, min_data_in_leaf=5
            ),
            "max_rounds": 20,
        }
        return LightGBMObjective(*TWO, **settings | dict(self.options) | options)

    def others(self) -> list[Objective]:
        return [
            self.objective(objective="cross_entropy"),
            self.objective(metric="binary_error", metrics=[]),
            self.objective(folds=3),
            self.objective(seed=1),
            self.objective(max_rounds=30),
            self.objective(params={"max_bin": 63}),
            self.objective(class_weight="balanced"),
            self.objective(weight=np.linspace(1, 2, len(TWO[1]))),
            self.objective(metric=negative_loss, metrics=[]),
        ]

    def data(self) -> Any:
        return TWO

    @pytest.mark.parametrize("scale", [1e-3, 1000.0])
    def test_a_column_on_another_scale_is_other_data(self, scale: float) -> None:
        study = make_study("s", storage="memory://", objective=self.objective())
        run(study, self.objective(), n_trials=1)
        scaled = TWO[0] * [1, scale, 1, 1]
        settings = {"objective": "binary", "metric": "binary_logloss", "max_rounds": 20}
        other = LightGBMObjective(scaled, TWO[1], **settings, **self.options)
        other = other.with_search_space(self.objective().search_space)
        with pytest.raises(RecipeMismatch, match=r"'train': stored '\(100x4, 100\) \w+', asked"):
            run(study, other, n_trials=2)
        assert len(study.trials) == 1


class TestLightGBMOnAHoldOut(TestLightGBM):
    options: Mapping[str, Any] = {"valid": 0.3}

    def others(self) -> list[Objective]:
        return [self.objective(valid=0.4), self.objective(score=self.data())]


class TestLightGBMFoldByFold(TestLightGBM):
    options: Mapping[str, Any] = {"folds": 3, "fidelity": "folds"}

    def others(self) -> list[Objective]:
        return [self.objective(fidelity="rounds")]


class TestSklearn(ObjectiveContract):
    options: Mapping[str, Any] = {"fidelity": "folds"}

    def objective(self, **options: Any) -> Objective:
        estimator = options.pop("estimator", make_pipeline(StandardScaler(), SGDClassifier()))
        data = options.pop("train", IRIS)
        space = SearchSpace(
            {"sgdclassifier__alpha": (1e-5, 1e-2, "log"), "sgdclassifier__average": True},
            defaults={"sgdclassifier__alpha": 1e-4},
        )
        settings = {"metric": "accuracy", "folds": 3, "search_space": space}
        return SklearnObjective(estimator, *data, **settings | dict(self.options) | options)

    def others(self) -> list[Objective]:
        return [
            self.objective(metric="f1_macro"),
            self.objective(metric=make_scorer(fbeta_score, beta=2.0, average="macro")),
            self.objective(folds=4),
            self.objective(seed=1),
            self.objective(folds=ShuffleSplit(3, test_size=0.2, random_state=1)),
            self.objective(
                estimator=make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss"))
            ),
            self.objective(estimator=make_pipeline(MinMaxScaler(), SGDClassifier())),
            self.objective(train=permuted(IRIS)),
            self.objective(sample_weight=np.linspace(1, 2, len(IRIS[1]))),
        ]

    def data(self) -> Any:
        return IRIS


class TestSklearnByFoldMeans(TestSklearn):
    options: Mapping[str, Any] = {"fidelity": "fold_means"}


class TestSklearnByEpochs(TestSklearn):
    options: Mapping[str, Any] = {"fidelity": "epochs", "max_steps": 3, "batch_size": 20}


class TestSklearnByRows(TestSklearn):
    options: Mapping[str, Any] = {"fidelity": "rows"}


class TestSklearnByTrees(TestSklearn):
    def objective(self, **options: Any) -> Objective:
        settings = {"folds": 2, "fidelity": "trees", "max_steps": 3}
        return SklearnObjective(RandomForestClassifier(6, max_depth=3), *IRIS, **settings | options)

    def others(self) -> list[Objective]:
        return [self.objective(fidelity="folds", max_steps=None)]


SPLITS = leave_last_out(make_taste_clusters(n_users=30, n_items=40).interactions)
OTHER_SPLITS = leave_last_out(make_taste_clusters(n_users=30, n_items=40, seed=5).interactions)


class TestRecommender(ObjectiveContract):
    value_is_of_data = True
    trainer = "mf"

    def objective(self, **options: Any) -> Objective:
        settings = {"metric": "ndcg@5", "max_epochs": 3, "references": ()} | options
        return RecommenderObjective(self.trainer, SPLITS, **settings)

    def others(self) -> list[Objective]:
        longer = [self.objective(max_epochs=4)] if self.trainer == "mf" else []
        other_rows = RecommenderObjective(
            self.trainer, OTHER_SPLITS, metric="ndcg@5", max_epochs=3, references=()
        )
        return [self.objective(metric="hr@5"), other_rows, *longer]

    def data(self) -> Any:
        return SPLITS.valid


class TestClosedForm(TestRecommender):
    trainer = "ease"


class TestSequences(TestRecommender):
    trainer = "sasrec"


TRUTH = np.arange(200) % 2
PARTS = {"tune": slice(0, 100), "score": slice(100, 200)}


def make_artifact(params: Mapping[str, Any], reporter: Reporter) -> np.ndarray:
    noise = np.random.default_rng(reporter.seed).normal(size=200)
    saved = reporter.restore()
    found = TRUTH * 0.0 if saved is None else np.frombuffer(saved).copy()
    for step in reporter.steps(3):
        found = found + (TRUTH + params["noise"] * noise) / 3
        reporter.report(float(np.corrcoef(found, TRUTH)[0, 1]), step, state=found.tobytes)
    return found


def score_artifact(artifact: Any, post_params: Mapping[str, Any], part: str) -> dict[str, float]:
    right = (artifact[PARTS[part]] > post_params["threshold"]) == TRUTH[PARTS[part]]
    return {"errors": float((~right).sum()), "accuracy": float(right.mean())}


def score_twice(artifact: Any, post_params: Mapping[str, Any], part: str) -> dict[str, float]:
    return {name: 2 * each for name, each in score_artifact(artifact, post_params, part).items()}


class TestStaged(ObjectiveContract):
    value_is_of_data = True

    def objective(self, **options: Any) -> Objective:
        settings: dict[str, Any] = {
            "search_space": SearchSpace({"noise": (0.1, 1.0)}),
            "post_space": SearchSpace({"threshold": (-1.0, 2.0)}),
            "metric": "accuracy",
            "direction": "maximize",
            "max_steps": 3,
            "n_post_trials": 4,
        }
        functions = {"make_artifact": make_artifact, "score_artifact": score_artifact}
        return StagedObjective(**functions | settings | options)

    def others(self) -> list[Objective]:
        return [
            self.objective(data=[1]),
            self.objective(n_post_trials=5),
            self.objective(post_sampler="random"),
            self.objective(score_artifact=score_twice),
        ]

    def data(self) -> str:
        return "score"
