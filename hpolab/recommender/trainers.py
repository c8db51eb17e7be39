"""The trainers by their names, each loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module

from hpolab.errors import InvalidType, needs, one_of
from hpolab.recommender.space import RECOMMENDERS
from hpolab.recommender.trainer import RecommenderTrainer

__all__ = ["open_trainer"]

# Where each trainer's class is; all others are models of torch with one trainer.
_CLASSES = {
    "popularity": ("classical", "Popularity"),
    "last_days_popularity": ("recent", "LastDaysPopularity"),
    "ease": ("classical", "Ease"),
    "item_knn": ("classical", "ItemKnn"),
    "rating_bias": ("rating_bias", "RatingBias"),
    "als": ("implicit", "Als"),
    "bpr_implicit": ("implicit", "BprImplicit"),
    "logistic_mf": ("implicit", "LogisticMf"),
}


def open_trainer(trainer: str | RecommenderTrainer, device: str = "cpu") -> RecommenderTrainer:
    """Return a trainer by its name, or as it is.

    Raises:
        InvalidArgument: If there is no such trainer.
        InvalidType: If it is neither a name nor a `RecommenderTrainer`.
    """
    if isinstance(trainer, RecommenderTrainer):
        return trainer
    if not isinstance(trainer, str):
        raise InvalidType(
            f"`trainer` must be a name or a RecommenderTrainer, got {type(trainer).__name__}."
        )
    one_of("trainer", trainer, RECOMMENDERS)
    if trainer in _CLASSES:
        file, name = _CLASSES[trainer]
        module = import_module(f"hpolab.recommender.{file}")
        opened: RecommenderTrainer = getattr(module, name)()
        return opened
    with needs(f"`trainer={trainer!r}`", "PyTorch", "recommender"):
        from hpolab.recommender.sasrec import SasRec
        from hpolab.recommender.training import TorchRecommenderTrainer

    if trainer == SasRec.name:
        return SasRec(device=device)
    return TorchRecommenderTrainer(trainer, device=device)
