"""A wrong keyword brings the right one: what other libraries call it, or what is spelled alike."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from functools import update_wrapper
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from hpolab.errors import InvalidArgument, InvalidType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["checks_keywords", "given_as"]

P = ParamSpec("P")
R = TypeVar("R")

# hpolab's word -> words for it in Optuna, scikit-learn, LightGBM, XGBoost, CatBoost, Keras,
# Lightning, Ray Tune and Hugging Face.
_OTHER_WORDS = {
    "accumulation_steps": "gradient_accumulation_steps accumulate_grad_batches grad_accumulation "
    "gradient_accumulation",
    "batch_size": "bs train_batch_size per_device_train_batch_size",
    "build_model": "model model_fn build_fn model_init hypermodel net module",
    "callbacks": "callback",
    "categorical": "categorical_feature categorical_features cat_features categorical_columns",
    "checkpoints": "checkpoint_dir checkpoint_path artifact_store",
    "class_weight": "class_weights scale_pos_weight",
    "contenders": "objectives optimizers candidates models",
    "data": "X x inputs test test_data test_set X_test valid dataset",
    "device": "accelerator use_gpu gpu",
    "direction": "mode directions greater_is_better maximize minimize",
    "estimator": "model clf pipeline regressor classifier",
    "every": "interval period report_every",
    "fidelity": "resource resource_attr",
    "folder": "directory dir output_dir out_dir path",
    "function": "fn func objective objective_fn train_fn trainable",
    "folds": "cv n_splits n_folds nfold num_folds k_folds fold_count splitter",
    "groups": "group query qid group_id",
    "layer_decay": "layerwise_lr_decay layer_lr_decay llrd lr_layer_decay",
    "learn_from": "warm_start warm_start_from transfer_from prior_studies previous_studies "
    "source_studies earlier_studies",
    "loss": "criterion loss_fn loss_function objective",
    "make_artifact": "train fit train_fn",
    "max_epochs": "epochs n_epochs num_epochs num_train_epochs nb_epoch max_epoch max_steps",
    "max_grad_norm": "gradient_clip_val clip_grad_norm grad_clip clip_grad clipnorm max_norm "
    "gradient_clipping",
    "max_rounds": "num_boost_round n_estimators num_iterations num_rounds n_rounds iterations "
    "max_iter num_boost_rounds",
    "max_steps": "n_steps num_steps steps max_epochs epochs n_epochs max_iter",
    "metric": "scoring eval_metric scorer score_func score_function monitor metric_name",
    "metrics": "eval_metrics scorings",
    "min_delta": "tol threshold min_improvement",
    "n_epochs": "epochs num_epochs max_epochs max_iter",
    "n_repeats": "n_runs repeats repetitions n_repetitions n_seeds",
    "n_seeds": "seeds repeats num_seeds n_repetitions n_repeats n_runs",
    "n_trials": "n_iter max_evals num_samples max_trials num_trials n_calls n_iterations trials "
    "budget",
    "n_workers": "n_jobs num_workers workers max_workers n_processes processes nthread "
    "max_concurrent_trials",
    "objective": "function func fn target trainable",
    "on_epoch": "on_epoch_end on_train_epoch_end epoch_callback",
    "optimizer": "optim optimizer_fn optimizer_class configure_optimizers make_optimizer",
    "name": "optimizer optimizers names",
    "params": "parameters lgb_params model_params config",
    "path": "file filename file_name filepath output out dest fname output_path",
    "patience": "early_stopping_rounds early_stopping n_iter_no_change early_stopping_patience "
    "stopping_rounds",
    "precision": "mixed_precision amp use_amp dtype bf16 fp16 autocast",
    "pruner": "scheduler stopper early_stopper",
    "run_id": "id id_column run_column index",
    "sample_weight": "weight weights sample_weights",
    "sampler": "search_alg algorithm tuner algo optimizer",
    "schedule": "scheduler lr_scheduler lr_schedule scheduler_fn",
    "score": "holdout hold_out",
    "score_artifact": "score evaluate metric_fn",
    "search_space": "space params param_distributions param_grid param_space distributions "
    "hp_space search_spaces config parameters",
    "seed": "random_state random_seed rng seeds",
    "show_progress_bar": "progress_bar progress verbose verbosity disable_tqdm",
    "source": "csv table path file filename data df frame",
    "step": "epoch iteration iter global_step round",
    "storage": "backend url db storage_url database",
    "study_name": "name names experiment experiment_name run_name project_name",
    "test": "test_data test_set X_test test_dataset",
    "timeout_seconds": "timeout time_limit max_time time_budget time_budget_s timeout_s "
    "max_time_mins",
    "timestamp": "time timestamp_col time_col timestamp_column date timestamps",
    "top_k": "k top n_best",
    "train": "X x data dtrain dataset train_data train_set training_data X_train x_train "
    "train_loader train_dataloader train_dataset",
    "item": "item_col item_column item_id iid items",
    "rating": "rating_col rating_column ratings score",
    "user": "user_col user_column user_id uid users",
    "unpack": "target_key targets_key label_key label_names collate_fn prepare_batch",
    "valid": "val validation eval_set validation_data valid_set valid_sets val_data dev "
    "validation_split validation_fraction test_size val_loader eval_dataset X_valid",
    "user_ids": "users user user_id",
    "value": "loss score metric result objective_value column value_column target metric_value",
    "weight": "sample_weight weights sample_weights",
    "y": "target targets label labels y_train",
}

# Whose argument it is, where a function has none of that name.
_PLACES = {
    "seed": "make_study",
    "test": "confirm",
    "callbacks": "run",
    "fuse": "run",
    "n_trials": "run",
    "n_workers": "run",
    "show_progress_bar": "run",
    "patience": "the objective",
    "search_space": "the objective",
    "metric": "the objective",
    "pruner": "make_study",
    "sampler": "make_study",
    "storage": "make_study",
    "study_name": "make_study",
}


_OWN = frozenset({"self", "cls"})

# What needs no argument here, and why.
_NOT_NEEDED = {
    **dict.fromkeys(
        ("load_if_exists", "resume", "exist_ok"),
        "`make_study` resumes the study of that name by itself.",
    ),
    "catch": "A trial that fails is logged, and the study goes on by itself.",
    "refit": "`objective.fit_best(study)` trains the best configuration.",
    **dict.fromkeys(
        ("shuffle", "stratified"), "`folds` takes a splitter of scikit-learn, which says so."
    ),
    "open_browser": "`webbrowser.open` opens the file that it returns.",
}
# Hyperparameters, which are tuned or fixed in the search space.
_IN_THE_SPACE = frozenset(
    [
        "lr",
        "learning_rate",
        "weight_decay",
        "momentum",
        "dropout",
        "factors",
        "n_factors",
        "embedding_dim",
        "embedding_size",
        "num_leaves",
        "max_depth",
        "hidden_size",
        "n_layers",
        "num_negatives",
        "n_neg",
        "regularization",
        "reg",
    ]
)


def checks_keywords(*options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function refuse a keyword that it does not have with the one that was meant.

    Too many arguments by position are refused with the names to give them by. The signature stays
    what it was, for type checkers, editors and `inspect`.

    Args:
        *options: The TypedDict of the function's ``**options``. Without it, a function that has
            such takes all keywords.

    Raises:
        InvalidType: From the function, for such a call.

    Example:
        >>> @checks_keywords()
        ... def train(*, max_epochs=1, timeout_seconds=None): ...
        >>> train(epochs=3)
        Traceback (most recent call last):
        hpolab.errors.InvalidType: `train` has no argument `epochs`. Did you mean `max_epochs`?
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known = _keywords_of(function, options)
        by_position, by_name = _sorted_names(function)

        def check(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
            if by_position is not None and len(args) > len(by_position):
                raise InvalidType(_positions(_called(function, args), args, by_position, by_name))
            for name in keywords:
                if known is not None and name not in known:
                    raise InvalidType(_message(_called(function, args), name, known))

        def call(*args: P.args, **keywords: P.kwargs) -> R:
            check(args, keywords)
            return function(*args, **keywords)

        # With the function's own globals, by which doctest tells whose the function is.
        wrapper = FunctionType(
            call.__code__, function.__globals__, function.__name__, None, call.__closure__
        )
        return cast("Callable[P, R]", update_wrapper(wrapper, function))

    return decorate


def given_as(name: str, value: Any, synonym: str, options: Mapping[str, Any]) -> Any:
    """Return an argument that may be given by another library's word for it as well.

    Args:
        name: The argument's own name.
        value: What was given by that name; None for nothing.
        synonym: The other word.
        options: The keywords that may hold it.

    Raises:
        InvalidArgument: If both were given.

    Example:
        >>> given_as("folds", None, "cv", {"cv": 5})
        5
    """
    other = options.get(synonym)
    if value is not None and other is not None:
        raise InvalidArgument(
            f"`{name}` and `{synonym}` are two words for one argument, got {name}={value!r} and "
            f"{synonym}={other!r}."
        )
    return other if value is None else value


def _keywords_of(function: Any, options: Iterable[Any]) -> frozenset[str] | None:
    """Return the keywords that a function takes; None where it takes any."""
    parameters = inspect.signature(function).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for each in options:
        named |= each.__optional_keys__ | each.__required_keys__
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    return None if takes_any and not options else frozenset(named)


def _sorted_names(function: Any) -> tuple[list[str] | None, list[str]]:
    """Return what a function takes by position, None for any number, and what by name alone."""
    parameters = inspect.signature(function).parameters.values()
    by_name = [p.name for p in parameters if p.kind == p.KEYWORD_ONLY]
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return None, by_name
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds], by_name


def _positions(
    called: str, args: tuple[Any, ...], by_position: Sequence[str], by_name: Sequence[str]
) -> str:
    own = [name for name in by_position if name not in _OWN]
    names = ", ".join(f"`{name}`" for name in own) or "nothing"
    others = ", ".join(f"`{name}=`" for name in by_name[:3])
    rest = f": give the others by name, such as {others}" if others else ""
    return f"`{called}` takes {names} by position, got {len(args) - len(by_position)} more{rest}."


def _called(function: Any, args: tuple[Any, ...]) -> str:
    if function.__name__ == "__init__" and args:
        return type(args[0]).__name__
    return str(function.__name__)


def _message(called: str, name: str, known: frozenset[str]) -> str:
    start = f"`{called}` has no argument `{name}`."
    meant = [ours for ours, others in _OTHER_WORDS.items() if name in others.split()]
    own = [ours for ours in meant if ours in known]
    own += get_close_matches(name, sorted(known - _OWN), n=1, cutoff=0.6) if not own else []
    if own:
        return f"{start} Did you mean `{own[0]}`?"
    if called == "RecommenderObjective" and name in ("optimizer", "loss"):
        return (
            f"{start} It is part of the search space: "
            f"`search_space=recommender_space(trainer, {name}=...)`."
        )
    if called.endswith("_space"):
        return f"{start} A range of it is changed by `{called}(...).override({name}=...)`."
    if name in _NOT_NEEDED:
        return f"{start} {_NOT_NEEDED[name]}"
    if name in _IN_THE_SPACE and "search_space" in known:
        return f"{start} Give its range or its value in `search_space`."
    for ours in [name, *meant]:
        if ours in _PLACES:
            place = _PLACES[ours]
            whose = place if " " in place else f"`{place}`"
            return f"{start} `{ours}` is an argument of {whose}."
    return f"{start} It has {', '.join(f'`{each}`' for each in sorted(known - {'self'}))}."
