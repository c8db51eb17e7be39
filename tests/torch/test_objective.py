"""TorchObjective: what a trial trains, reports, returns and leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset

from hpolab import (
    Diverged,
    HpolabError,
    InvalidArgument,
    InvalidType,
    SearchSpace,
    TorchObjective,
    load_digits,
    make_study,
    optimizer_space,
    run,
    split_four,
)
from hpolab.demo import build_cnn
from hpolab.studies.trials import METRICS_KEY
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping


SGD = SearchSpace({"optimizer": "sgd", "lr": (1e-3, 1.0, "linear")}, defaults={"lr": 0.05})
WEIGHTS = np.array([1.0, -2.0, 3.0])


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A linear problem with noise, float64: inputs (n, 3), targets (n,)."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 3))
    return inputs, inputs @ WEIGHTS + rng.normal(size=n)


def labeled(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same with labels 0 and 1."""
    inputs, targets = rows(n, seed)
    return inputs, (targets > 0).astype(np.int64)


TRAIN, VALID, SCORE = rows(41, 0), rows(30, 1), rows(30, 2)


def linear(params: Mapping[str, Any]) -> nn.Module:
    return nn.Linear(3, 1)


def digits(**options: Any) -> TorchObjective:
    splits = split_four(load_digits(), n_train=300, n_valid=100, n_score=100, n_test=100)
    settings: dict[str, Any] = {
        "train": splits.train,
        "valid": splits.valid,
        "score": splits.score,
        "search_space": optimizer_space("adamw"),
        "loss": "cross_entropy",
        "metric": "accuracy",
        "max_epochs": 3,
    }
    return TorchObjective(build_cnn, **settings | options)


# What a trial is


def test_study_of_digits_learns_and_records(run_trials):
    trials = run_trials(digits(metrics=["macro_f1", "loss"]), n_trials=2)
    for trial in trials:
        assert trial.state == TrialState.COMPLETE
        assert sorted(trial.intermediate_values) == [0, 1, 2]
        recorded = trial.user_attrs[METRICS_KEY]
        assert list(recorded) == ["accuracy", "macro_f1", "loss"]
        assert recorded["accuracy"] == trial.value
    assert trials[0].params == digits().search_space.to_trial(digits().search_space.defaults())
    assert max(trial.value for trial in trials) > 0.5


def test_objective_works_in_a_plain_optuna_study():
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(digits(max_epochs=1), n_trials=1)
    assert study.best_trial.state == TrialState.COMPLETE


def test_pruned_trial_stops(regression):
    study = make_study(
        "s",
        storage="memory://",
        sampler="random",
        pruner=optuna.pruners.ThresholdPruner(upper=1e-6),
        seed=0,
    )
    run(study, regression(metrics=["mae"]), n_trials=1, show_progress_bar=False)
    (trial,) = study.trials
    assert trial.state == TrialState.PRUNED
    assert sorted(trial.intermediate_values) == [0]
    assert METRICS_KEY not in trial.user_attrs


def not_a_number(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return outputs.sum() * torch.nan


@pytest.mark.parametrize(
    "options",
    [
        {"search_space": SearchSpace({"optimizer": "sgd", "lr": 1e30})},
        {"metric": not_a_number, "direction": "minimize"},
    ],
    ids=["weights", "metric"],
)
def test_diverged_trial_is_pruned_and_marked(regression, run_trial, options):
    objective = regression(**options)
    trial = run_trial(objective)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs[REASON_KEY].startswith("diverged: ")
    assert max(trial.constraints.values()) > 0
    with pytest.raises(Diverged):
        objective.fit(objective.search_space.defaults(), seed=0)


# Models, data, losses


@pytest.mark.parametrize("build", [linear, lambda _: nn.Sequential(linear({}), nn.Flatten(0))])
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize(
    ("loss", "metric", "data"),
    [("mse", "r2", rows), ("huber", "mae", rows), ("bce", "accuracy", labeled)],
)
def test_rows_and_columns_train_alike(regression, run_trial, build, column, loss, metric, data):
    splits = {name: data(40, seed) for seed, name in enumerate(["train", "valid", "score"])}
    plain = run_trial(regression(**splits, loss=loss, metric=metric))
    if column:
        splits = {name: (inputs, y[:, None]) for name, (inputs, y) in splits.items()}
    trial = run_trial(regression(build, **splits, loss=loss, metric=metric))
    assert trial.state == TrialState.COMPLETE
    assert trial.intermediate_values == plain.intermediate_values


def test_integer_targets_train_a_regression(regression, run_trial):
    splits = {name: labeled(30, seed) for seed, name in enumerate(["train", "valid", "score"])}
    assert run_trial(regression(**splits, loss="huber")).state == TrialState.COMPLETE


def test_loss_and_metric_may_be_callables(regression, run_trial):
    def worst(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs[:, 0] - targets).abs().max()

    def cubic(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs[:, 0] - targets).abs().pow(3).mean()

    trial = run_trial(regression(loss=cubic, metric=worst, direction="minimize", metrics=["loss"]))
    assert list(trial.user_attrs[METRICS_KEY]) == ["worst", "loss"]


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.linear(torch.cat([inputs["first"], inputs["rest"]], dim=1))


def two_inputs(data: tuple[np.ndarray, np.ndarray]) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
    inputs, targets = data
    return {"first": inputs[:, :1], "rest": inputs[:, 1:]}, targets


def test_inputs_in_a_dict_train_like_one_array(regression, run_trial):
    splits = {"train": two_inputs(TRAIN), "valid": two_inputs(VALID), "score": two_inputs(SCORE)}
    trial = run_trial(regression(lambda params: Two(), **splits))
    assert trial.intermediate_values == run_trial(regression()).intermediate_values


def test_batch_size_may_be_a_parameter_of_the_trial(regression, same_weights):
    space = SGD | SearchSpace({"batch_size": [4, 20]})
    objective = regression(search_space=space)
    for batch_size in (4, 20):
        with_parameter = objective.fit(
            {"optimizer": "sgd", "lr": 0.05, "batch_size": batch_size}, seed=0
        )
        by_argument = regression(batch_size=batch_size).fit({"optimizer": "sgd", "lr": 0.05}, 0)
        assert same_weights(with_parameter, by_argument)


def test_build_model_may_take_its_parameters_out_of_the_params(regression, run_trial):
    def build(params: dict[str, Any]) -> nn.Module:
        params.clear()
        return linear(params)

    assert run_trial(regression(build)).state == TrialState.COMPLETE


# Loaders


def tensors(data: tuple[np.ndarray, np.ndarray]) -> TensorDataset:
    return TensorDataset(*(torch.as_tensor(part, dtype=torch.float32) for part in data))


def loader(data: tuple[np.ndarray, np.ndarray] = TRAIN, **options: Any) -> DataLoader[Any]:
    # 41 rows: the last batch would have one, on which batch normalization cannot train.
    return DataLoader(tensors(data), batch_size=8, drop_last=True, **options)


class Stream(IterableDataset):
    def __iter__(self):
        yield from tensors(TRAIN)


def own_generator() -> DataLoader[Any]:
    return loader(shuffle=True, generator=torch.Generator().manual_seed(9))


def sampler_s_generator() -> DataLoader[Any]:
    drawn = RandomSampler(range(41), generator=torch.Generator().manual_seed(9))
    return loader(sampler=drawn)


@pytest.mark.parametrize(
    "make_loader",
    [lambda: loader(shuffle=True), own_generator, sampler_s_generator],
    ids=["no generator", "own generator", "sampler's generator"],
)
def test_shuffling_loader_is_reproducible_from_the_seed_alone(
    regression, same_weights, batch_norm, make_loader
):
    data = make_loader()
    objective = regression(batch_norm, train=data, valid=loader(VALID), score=loader(SCORE))
    params = objective.search_space.defaults()
    first, again, other = (objective.fit(params, seed) for seed in (1, 1, 2))
    assert same_weights(first, again)
    assert not same_weights(first, other)
    torch.rand(3)
    anew = regression(batch_norm, train=make_loader(), valid=loader(VALID), score=loader(SCORE))
    assert same_weights(first, anew.fit(params, 1))


def test_loader_s_worker_processes_draw_from_the_seed(regression, same_weights):
    data = loader(shuffle=True, num_workers=1, collate_fn=noisy)
    objective = regression(train=data, valid=loader(VALID), max_epochs=1)
    params = objective.search_space.defaults()
    first, again, other = (objective.fit(params, seed) for seed in (1, 1, 2))
    assert same_weights(first, again)
    assert not same_weights(first, other)


def noisy(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = (torch.stack(part) for part in zip(*pairs, strict=True))
    return inputs + torch.rand(inputs.shape), targets


def test_loader_of_unknown_length_trains_like_its_batches(regression, same_weights):
    stream = regression(train=DataLoader(Stream(), batch_size=8, drop_last=True), max_epochs=2)
    listed = regression(train=list(loader()), max_epochs=2)
    params = SGD.defaults()
    assert same_weights(stream.fit(params, 0), listed.fit(params, 0))


@pytest.mark.parametrize("train", [TRAIN, DataLoader(Stream(), batch_size=8)])
def test_schedule_counts_in_epochs_whether_the_batches_are_known_or_not(regression, train):
    after_epoch = []

    def watch(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        after_epoch.append(outputs.clone())
        return outputs.sum()

    falls_to_nothing = {"optimizer": "sgd", "lr": 0.05, "schedule": "step", "step_size": 1}
    objective = regression(train=train, metric=watch, direction="minimize")
    objective.check()  # tries the metric
    after_epoch.clear()
    objective.fit({**falls_to_nothing, "gamma": 1e-12}, seed=0)
    first, second, third = after_epoch
    assert torch.allclose(first, second, atol=1e-6)
    assert torch.allclose(second, third, atol=1e-6)
    objective.fit({**falls_to_nothing, "gamma": 1.0}, seed=0)
    assert not torch.allclose(after_epoch[3], after_epoch[4], atol=1e-3)


# What is refused


def test_labels_out_of_the_model_s_range_cost_no_trial(random_study):
    splits = split_four(load_digits(), n_train=300, n_valid=100, n_score=100, n_test=100)
    images, labels = splits.score
    study = random_study(direction="maximize")
    with pytest.raises(
        InvalidArgument, match=r"^`score` labels must lie in 0\.\.9, .* got 1\.\.10"
    ):
        run(study, digits(score=(images, labels + 1)), n_trials=1)
    assert study.trials == []


def area(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """The area under the ROC curve, which has no value for one class."""
    return float(roc_auc_score(targets, outputs[:, 0]))


def by_label(data: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(data[1], kind="stable")
    return data[0][order], data[1][order]


@pytest.mark.parametrize("wrap", [lambda data: data, loader], ids=["arrays", "loader"])
def test_metric_that_needs_more_than_a_few_rows_is_not_refused(regression, run_trial, wrap):
    train, valid, score = (wrap(by_label(labeled(40, seed))) for seed in range(3))
    objective = regression(
        train=train, valid=valid, score=score, loss="bce", metric=area, direction="maximize"
    )
    assert run_trial(objective).state == TrialState.COMPLETE


class Counting:
    """Batches that count how many of them were read."""

    def __init__(self) -> None:
        self.n_read = 0

    def __iter__(self):
        for batch in loader():
            self.n_read += 1
            yield batch


def test_check_reads_one_batch_of_a_loader_and_trains_nothing(regression):
    data = Counting()
    objective = regression(train=data)
    data.n_read = 0
    objective.check()
    assert data.n_read == 1


def frozen(params: Mapping[str, Any]) -> nn.Module:
    return nn.Linear(3, 1).requires_grad_(False)


PRETRAINED = nn.Linear(3, 3)


def pretrained(params: Mapping[str, Any]) -> nn.Module:
    return nn.Sequential(PRETRAINED, nn.Linear(3, 1))


@pytest.mark.parametrize(
    ("build", "options", "error", "message"),
    [
        (lambda p: nn.Linear(4, 1), {}, RuntimeError, "shapes cannot be multiplied"),
        (lambda p: nn.Linear(3, 2), {}, InvalidArgument, r"outputs \(2, 2\) and targets \(2,\)"),
        (lambda p: None, {}, InvalidType, "`build_model` must return a torch.nn.Module, got None"),
        (lambda p: nn.LSTM(3, 1), {}, InvalidType, "whose output is a tensor, got tuple"),
        (frozen, {}, InvalidArgument, "requires_grad, got none"),
        (pretrained, {}, InvalidArgument, r"make new weights each time, .*: got '0\.weight' again"),
        (linear, {"loss": lambda o, t: (o[:, 0] - t) ** 2}, InvalidType, r"`loss` .* got \(2,\)"),
        (linear, {"loss": lambda o, t: 1.0}, InvalidType, r"`loss` .* got float"),
        (linear, {"loss": lambda o, t: t.mean()}, RuntimeError, "does not require grad"),
        (
            linear,
            {"metric": lambda o, t: o - t[:, None], "direction": "minimize"},
            InvalidType,
            "`metric` '<lambda>' must return a number",
        ),
        (
            linear,
            {
                "train": list(loader(labeled(9, 0))),
                "loss": "cross_entropy",
                "valid": labeled(9, 1),
                "score": None,
            },
            InvalidArgument,
            "`train` targets must be integer class ids",
        ),
        (
            linear,
            {"search_space": SGD | SearchSpace({"schedule": "step"})},
            InvalidArgument,
            "'step_size', 'gamma' for the schedule 'step'",
        ),
        (
            linear,
            {"search_space": SGD | SearchSpace({"batch_size": 0})},
            InvalidArgument,
            "`batch_size` must be 1 or above, got 0",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_a_trial(
    regression, random_study, build, options, error, message
):
    study = random_study()
    with pytest.raises(error, match=message):
        run(study, regression(build, **options), n_trials=1)
    assert study.trials == []


def test_error_of_the_model_says_on_which_split_it_came(regression):
    objective = regression(lambda params: nn.Linear(4, 1))
    with pytest.raises(RuntimeError) as raised:
        objective.check()
    assert raised.value.__notes__[0].startswith("Raised on rows of `train`")


@pytest.mark.parametrize("frozen_part", [True, False])
def test_backbone_may_be_shared_where_it_is_not_trained(regression, frozen_part):
    backbone = nn.Linear(3, 3).requires_grad_(not frozen_part)
    objective = regression(lambda params: nn.Sequential(backbone, nn.Linear(3, 1)))
    if frozen_part:
        objective.check()
    else:
        with pytest.raises(InvalidArgument, match="`build_model` must make new weights"):
            objective.check()


NO_OPTIMIZER = SearchSpace({"lr": (1e-3, 1.0, "log")})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"build_model": nn.Linear(3, 1).weight}, InvalidType, "`build_model` must be callable"),
        ({"train": None}, InvalidType, "`train` must be a pair .* got NoneType"),
        ({"valid": None}, InvalidType, "`valid` must be a pair .* got NoneType"),
        ({"valid": TRAIN}, InvalidArgument, "`train` and `valid` must not share rows"),
        ({"score": VALID}, InvalidArgument, "`valid` and `score` must not share rows"),
        ({"train": (TRAIN[0], TRAIN[1] * np.nan)}, InvalidArgument, "`train` targets must be fin"),
        ({"loss": "cross_entropy"}, InvalidArgument, "`train` targets must be integer class ids"),
        ({"loss": "bce"}, InvalidArgument, "`train` labels must be 0 or 1"),
        ({"loss": "msee"}, InvalidArgument, "`loss` must be one of .*Did you mean 'mse'"),
        ({"metric": "rsme"}, InvalidArgument, "`metric` must be one of .*Did you mean 'rmse'"),
        ({"metric": "r2", "direction": "minimize"}, InvalidArgument, "`direction` must be 'max"),
        ({"metrics": ["aucc"]}, InvalidArgument, "`metrics` must be one of"),
        (
            {"metric": "r2", "score": (SCORE[0], np.ones(30))},
            InvalidArgument,
            "`score` targets must vary for metric 'r2'",
        ),
        ({"max_epochs": 0}, InvalidArgument, "`max_epochs` must be 1 or above, got 0"),
        ({"max_epochs": 2.5}, InvalidType, "`max_epochs` must be an int, got float"),
        ({"batch_size": 0}, InvalidArgument, "`batch_size` must be 1 or above, got 0"),
        ({"eval_batch_size": "8"}, InvalidType, "`eval_batch_size` must be an int, got str"),
        ({"patience": 0}, InvalidArgument, "`patience` must be 1 or above"),
        ({"device": "gpu"}, InvalidArgument, "`device` must be available, got 'gpu'"),
        ({"device": "xpu:7"}, InvalidArgument, "`device` must be available, got 'xpu:7'"),
        ({"device": None}, InvalidType, "`device` must be a string or torch.device"),
        ({"search_space": 0.1}, InvalidType, "`search_space` must be a SearchSpace or a dict"),
        ({"search_space": {"lr": 0.1}}, InvalidArgument, "must hold an 'optimizer'"),
        ({"search_space": NO_OPTIMIZER}, InvalidArgument, "must hold an 'optimizer', .* 'lr'"),
        (
            {"search_space": SGD | SearchSpace({"batch_size": [8, 16]}), "train": loader()},
            InvalidArgument,
            "must not hold 'batch_size' where `train` makes its own batches",
        ),
    ],
)
def test_bad_argument_is_refused(regression, options, error, message):
    with pytest.raises(error, match=message) as raised:
        regression(**options)
    assert isinstance(raised.value, HpolabError)


def test_negative_seed_is_refused(regression):
    with pytest.raises(InvalidArgument, match="`seed` must be 0 or above, got -1"):
        regression().fit(SGD.defaults(), seed=-1)
