"""Wrong keywords: what other libraries call it is named in hpolab's word."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

import hpolab
from hpolab import (
    FunctionObjective,
    HpolabError,
    Interactions,
    InvalidType,
    LightGBMObjective,
    Objective,
    RecommenderObjective,
    Reporter,
    SearchSpace,
    SklearnObjective,
    StagedObjective,
    TorchObjective,
    compare,
    confirm,
    fit_by_epochs,
    import_runs,
    make_study,
    optimizer_space,
    recommender_space,
    run,
    write_report,
)
from hpolab.keywords import checks_keywords


def takes_keywords(name: str) -> bool:
    """Tell whether a public name is called by users with arguments of a known list."""
    public = getattr(hpolab, name)
    if inspect.isclass(public):
        if issubclass(public, Exception) or dataclasses.is_dataclass(public):
            return False
        if "__init__" not in vars(public):
            return False
    elif not callable(public):
        return False
    parameters = inspect.signature(public).parameters.values()
    untyped = any(p.kind == p.VAR_KEYWORD and "Unpack" not in str(p.annotation) for p in parameters)
    return bool(parameters) and not untyped and not inspect.isabstract(public)


PUBLIC = [name for name in sorted(hpolab.__all__) if takes_keywords(name)]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_callable_refuses_a_keyword_that_it_has_not(name):
    with pytest.raises(InvalidType, match=f"`{name}` has no argument `zzz`.") as raised:
        getattr(hpolab, name)(zzz=1)
    assert isinstance(raised.value, HpolabError)


@pytest.mark.parametrize(
    ("function", "wrong", "right"),
    [
        (TorchObjective, "epochs", "max_epochs"),
        (TorchObjective, "model", "build_model"),
        (TorchObjective, "criterion", "loss"),
        (TorchObjective, "val", "valid"),
        (TorchObjective, "X", "train"),
        (TorchObjective, "early_stopping", "patience"),
        (TorchObjective, "timeout", "timeout_seconds"),
        (TorchObjective, "eval_batchsize", "eval_batch_size"),
        (TorchObjective, "mode", "direction"),
        (TorchObjective, "params", "search_space"),
        (TorchObjective, "gradient_accumulation_steps", "accumulation_steps"),
        (TorchObjective, "gradient_clip_val", "max_grad_norm"),
        (TorchObjective, "amp", "precision"),
        (TorchObjective, "lr_scheduler", "schedule"),
        (TorchObjective, "optim", "optimizer"),
        (TorchObjective, "on_epoch_end", "on_epoch"),
        (TorchObjective, "llrd", "layer_decay"),
        (LightGBMObjective, "num_boost_round", "max_rounds"),
        (LightGBMObjective, "early_stopping_rounds", "patience"),
        (LightGBMObjective, "eval_metric", "metric"),
        (LightGBMObjective, "sample_weight", "weight"),
        (LightGBMObjective, "nfold", "folds"),
        (LightGBMObjective, "categorical_feature", "categorical"),
        (LightGBMObjective, "random_state", "seed"),
        (SklearnObjective, "scorer", "metric"),
        (SklearnObjective, "n_splits", "folds"),
        (SklearnObjective, "param_distributions", "search_space"),
        (SklearnObjective, "model", "estimator"),
        (SklearnObjective, "weight", "sample_weight"),
        (RecommenderObjective, "epochs", "max_epochs"),
        (RecommenderObjective, "paitence", "patience"),
        (StagedObjective, "score", "score_artifact"),
        (StagedObjective, "n_post_trial", "n_post_trials"),
        (FunctionObjective, "epochs", "max_steps"),
        (fit_by_epochs, "epochs", "n_epochs"),
        (fit_by_epochs, "scoring", "metric"),
        (Reporter, "early_stopping_rounds", "patience"),
        (run, "n_jobs", "n_workers"),
        (run, "timeout", "timeout_seconds"),
        (run, "max_evals", "n_trials"),
        (make_study, "name", "study_name"),
        (make_study, "scheduler", "pruner"),
        (make_study, "random_state", "seed"),
        (confirm, "X_test", "test"),
        (SearchSpace, "default", "defaults"),
    ],
)
def test_word_of_another_library_brings_hpolab_s(function, wrong, right):
    with pytest.raises(InvalidType, match=rf"has no argument `{wrong}`. Did you mean `{right}`\?$"):
        function(**{wrong: 1})


@pytest.mark.parametrize(
    ("function", "wrong", "hint"),
    [
        (TorchObjective, "n_jobs", "`n_workers` is an argument of `run`."),
        (TorchObjective, "n_trials", "`n_trials` is an argument of `run`."),
        (LightGBMObjective, "sampler", "`sampler` is an argument of `make_study`."),
        (run, "early_stopping_rounds", "`patience` is an argument of the objective."),
        (run, "pruner", "`pruner` is an argument of `make_study`."),
        (run, "random_state", "`seed` is an argument of `make_study`."),
        (TorchObjective, "seed", "`seed` is an argument of `make_study`."),
        (SklearnObjective, "X_test", "`test` is an argument of `confirm`."),
        (make_study, "load_if_exists", "`make_study` resumes the study of that name by itself."),
        (run, "resume", "`make_study` resumes the study of that name by itself."),
        (run, "catch", "A trial that fails is logged, and the study goes on by itself."),
        (SklearnObjective, "refit", "`objective.fit_best(study)` trains the best configuration."),
        (TorchObjective, "lr", "Give its range or its value in `search_space`."),
        (RecommenderObjective, "factors", "Give its range or its value in `search_space`."),
        (FunctionObjective, "fn", "Did you mean `function`?"),
        (Reporter.report, "epoch", "Did you mean `step`?"),
        (Reporter.report, "loss", "Did you mean `value`?"),
        (write_report, "filename", "Did you mean `path`?"),
        (optimizer_space, "optimizers", "Did you mean `name`?"),
        (import_runs, "value_column", "Did you mean `value`?"),
        (Interactions.from_frame, "user_col", "Did you mean `user`?"),
        (compare, "repeats", "Did you mean `n_repeats`?"),
        (confirm, "n_repeats", "Did you mean `n_seeds`?"),
        (TorchObjective.fit, "random_state", "Did you mean `seed`?"),
        (LightGBMObjective.fit, "random_state", "Did you mean `seed`?"),
        (SklearnObjective.fit_best, "random_state", "Did you mean `seed`?"),
    ],
)
def test_argument_of_another_step_says_of_which(function, wrong, hint):
    with pytest.raises(InvalidType) as raised:
        function(**{wrong: 1})
    assert str(raised.value).endswith(f"has no argument `{wrong}`. {hint}")


def test_word_like_no_other_brings_the_list():
    with pytest.raises(InvalidType, match=r"no argument `zzz`\. It has `path`, "):
        write_report(zzz=1)


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (run, 3, r"`run` takes `study`, `objective` by position, got 1 more: .* `n_trials=`"),
        (TorchObjective, 3, r"`TorchObjective` takes `build_model` by position, got 2 more"),
        (Reporter, 2, r"`Reporter` takes `trial` by position, got 1 more: give the others by"),
        (make_study, 2, r"`make_study` takes `study_name` by position, got 1 more: .*`storage=`"),
    ],
)
def test_too_many_arguments_by_position_bring_the_names(function, args, message):
    with pytest.raises(InvalidType, match=message):
        function(*range(args))


def test_subclass_is_named_as_the_user_called_it():
    class Mine(Objective):
        def train(self, params, reporter):
            return 0.0

    with pytest.raises(InvalidType, match=r"`Mine` has no argument `epochs`. Did you mean `max_st"):
        Mine(search_space=SearchSpace({}), direction="minimize", epochs=3)


def test_signature_name_and_docstring_stay():
    @checks_keywords()
    def draw(n: int, *, seed: int = 0) -> float:
        """Draw."""
        return n + seed

    assert str(inspect.signature(draw)) == "(n: 'int', *, seed: 'int' = 0) -> 'float'"
    assert (draw.__name__, draw.__doc__, draw.__module__) == ("draw", "Draw.", __name__)
    assert draw(1, seed=2) == 3
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        draw()


def test_function_that_takes_any_keyword_takes_it():
    @checks_keywords()
    def store(**metrics: Any) -> dict[str, Any]:
        return metrics

    assert store(loss=1) == {"loss": 1}


FAMILIES = [
    FunctionObjective,
    LightGBMObjective,
    RecommenderObjective,
    SklearnObjective,
    StagedObjective,
    TorchObjective,
    Reporter,
    run,
]


@pytest.mark.parametrize("family", FAMILIES)
def test_no_signature_has_more_than_13_arguments(family):
    assert len(inspect.signature(family).parameters) <= 13


@pytest.mark.parametrize("name", ["optimizer", "loss"])
def test_what_a_recommenders_space_decides_is_shown_there(name):
    with pytest.raises(InvalidType, match=rf"recommender_space\(trainer, {name}=\.\.\.\)"):
        RecommenderObjective("mf", None, **{name: "sgd"})


@pytest.mark.parametrize("make", [optimizer_space, recommender_space])
def test_range_that_is_given_to_a_space_is_an_override(make):
    with pytest.raises(InvalidType, match=r"\.override\(lr=\.\.\.\)"):
        make("adam", lr=(0.1, 1.0))


@pytest.mark.parametrize(
    ("given", "ours"), [("user_col", "user"), ("time", "timestamp"), ("item_id", "item")]
)
def test_columns_of_interactions_by_other_names_are_shown(given, ours):
    with pytest.raises(InvalidType, match=f"Did you mean `{ours}`"):
        Interactions.from_frame({"a": [1], "b": [2]}, **{given: "a"})
