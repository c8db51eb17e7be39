"""What a recommender's trainer would not read: parameters of a space, columns of interactions."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from hpolab.errors import InvalidArgument, hint
from hpolab.recommender.protocol import is_rating
from hpolab.recommender.space import RECOMMENDER_LOSSES, RECOMMENDERS, recommender_space
from hpolab.search_space.reach import values_beside, values_of
from hpolab.torch.names import names_of_others, names_of_training, of_others
from hpolab.torch.optimizers import optimizer_space

if TYPE_CHECKING:
    from hpolab.recommender.interactions import Interactions
    from hpolab.recommender.trainer import RecommenderTrainer
    from hpolab.search_space.space import SearchSpace

__all__ = ["check_loss", "known_names", "refuse_unread", "warn_of_unread"]

# Losses that take no negatives.
_WITHOUT_NEGATIVES = {"softmax", "mse"}


def known_names(trainer: str) -> list[str]:
    """Return the parameters that a trainer may read; none for one of the user's own."""
    if trainer not in RECOMMENDERS:
        return []
    known = recommender_space(trainer).trainer_names()
    if trainer not in RECOMMENDER_LOSSES:
        return known
    of_losses = recommender_space(trainer, loss=RECOMMENDER_LOSSES[trainer]).trainer_names()
    return [*known, *of_losses, *names_of_training()]


def refuse_unread(space: SearchSpace, trainer: str) -> None:
    """Refuse a space with a name that its trainer, loss, optimizer and schedule do not read.

    Raises:
        InvalidArgument: If there is one.
    """
    known = known_names(trainer)
    for name in space.trainer_names() if known else ():
        if name not in known:
            raise InvalidArgument(
                f"`search_space` must hold parameters of trainer {trainer!r}, got "
                f"{name!r}.{hint(name, known)}"
            )
    if trainer in RECOMMENDER_LOSSES:
        _refuse_of_others(space, trainer)


def _refuse_of_others(space: SearchSpace, trainer: str) -> None:
    """Refuse names that another loss, optimizer or schedule reads than the space has."""
    others = names_of_others(space)
    own = recommender_space(trainer).without(optimizer_space("adam").defaults()).trainer_names()
    others = {each: owners for each, owners in others.items() if each not in own}
    if others:
        raise InvalidArgument(of_others(space, others, f"trainer {trainer!r}"))
    losses = values_beside(space, "loss").get("n_negatives", {})
    if any(values <= _WITHOUT_NEGATIVES for values in losses.values()):
        raise InvalidArgument(
            "`search_space` must hold names that something reads, got 'n_negatives', which no "
            "loss reads but those that sample: the loss 'softmax' takes all items, 'mse' none."
        )
    for each in ("accumulation_steps", "max_grad_norm"):
        if each in space.trainer_names():
            raise InvalidArgument(
                "`search_space` must hold names that something reads, got "
                f"{each!r}, which a TorchObjective reads, but no recommender's trainer."
            )


def check_loss(space: SearchSpace, trainer: RecommenderTrainer, metric: str) -> None:
    """Refuse a metric of ratings beside a training that does not learn from them.

    Raises:
        InvalidArgument: If it does not.
    """
    if not is_rating(metric) or trainer.reads_ratings:
        return
    able = [each for each, losses in RECOMMENDER_LOSSES.items() if "mse" in losses]
    if trainer.name not in able:
        raise InvalidArgument(
            f"`metric` {metric!r} must come from a trainer that predicts ratings, "
            f"{', '.join(map(repr, able))}, 'rating_bias', got {trainer.name!r}."
        )
    others = set(values_of(space, "loss")) - {"mse"}
    if others:
        raise InvalidArgument(
            f"`search_space` must hold the loss 'mse' alone for the metric {metric!r}, got "
            f"{', '.join(map(repr, sorted(map(str, others))))}: "
            f"`recommender_space({trainer.name!r}, loss='mse')`."
        )


def warn_of_unread(train: Interactions, space: SearchSpace, trainer: RecommenderTrainer) -> None:
    """Say which columns of the interactions are there, and not learned from.

    Warns:
        UserWarning: Of each such column.
    """
    learns = "mse" in values_of(space, "loss")
    if train.ratings is not None and not (trainer.reads_ratings or learns):
        warnings.warn(
            f"Trainer {trainer.name!r} does not read ratings: every row counts as an interaction, "
            "whatever its rating. Say what ratings mean where the interactions are read: "
            "`threshold=4` takes rows rated 4 and above, `weight=` their column as weights, "
            "`rating=None` every row; metric='rmse' predicts them.",
            stacklevel=4,
        )
    if train.weights is not None and not trainer.reads_weights:
        warnings.warn(
            f"Trainer {trainer.name!r} does not read weights: every row counts as one.",
            stacklevel=4,
        )
