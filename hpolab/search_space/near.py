"""Names that were meant: misspelled ones, and those that other libraries have for a parameter."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["meant_name"]

# Words for one thing in PyTorch, Keras, LightGBM, XGBoost, scikit-learn and Hugging Face.
_WORDS = (
    ("lr", "learning_rate", "learning_rate_init", "eta", "eta0", "step_size"),
    ("weight_decay", "wd", "decay"),
    ("beta1", "beta_1", "b1", "adam_beta1"),
    ("beta2", "beta_2", "b2", "adam_beta2"),
    ("eps", "epsilon", "adam_epsilon"),
    ("batch_size", "bs", "minibatch_size", "per_device_train_batch_size"),
    ("dropout", "dropout_rate", "drop_rate", "p_drop"),
    ("l2", "regularization", "reg", "reg_lambda", "lambda_l2", "alpha"),
    ("C", "c"),
    ("optimizer", "optim", "opt"),
    ("schedule", "scheduler", "lr_scheduler", "lr_schedule", "lr_scheduler_type"),
)
_NEAR = 0.8


def meant_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was most likely meant by another; None if there is none.

    A name that differs from a known one in its digits alone, ``hidden2`` beside ``hidden1``, is one
    of its own.

    Example:
        >>> meant_name("learning_rate", ["lr", "beta1"]), meant_name("lrr", ["lr", "beta1"])
        ('lr', 'lr')
        >>> meant_name("hidden", ["lr", "beta1"]) is None, meant_name("beta3", ["beta1"]) is None
        (True, True)
    """
    others = [each for each in known if each != name]
    for words in _WORDS:
        if name in words:
            found = [each for each in others if each.rpartition("__")[2] in words]
            if found:
                return found[0]
    likeness = {each: _likeness(name, each) for each in others}
    best = max(likeness, key=lambda each: likeness[each], default=None)
    return best if best is not None and likeness[best] >= _NEAR else None


def _likeness(name: str, other: str) -> float:
    if re.sub(r"\d+", "", name) == re.sub(r"\d+", "", other) and re.search(r"\d", name):
        return 0.0
    one, two = (re.sub(r"[\W_]", "", each).lower() for each in (name, other))
    return SequenceMatcher(None, one, two).ratio()
