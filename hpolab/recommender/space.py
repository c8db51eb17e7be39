"""Recommenders' search spaces, one for each trainer.

Nothing here imports torch or implicit: a space is distributions, and what trains with it is an
objective. One row of `_TRAINERS` states what is tuned of a trainer and where each range comes from.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, one_of
from hpolab.keywords import checks_keywords
from hpolab.search_space.rows import Row, space_of
from hpolab.search_space.space import SearchSpace, named_space
from hpolab.torch.optimizers import optimizer_space

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["RECOMMENDERS", "RECOMMENDER_LOSSES", "recommender_space"]

_KNN = "Ferrari Dacrema, Cremonesi, Jannach 2019, 'Are we really making much progress?', RecSys"
_TROUBLE = "Ferrari Dacrema et al. 2021, 'A troubling analysis', TOIS 39, ranges of the baselines"
_IMPLICIT = "default: implicit's"
_ML100K = "default: best on MovieLens-100K, by validation"
_BPR = "Rendle et al. 2009 (BPR)"
_NCF = "He et al. 2017 (NeuMF, arXiv:1708.05031), section 4.1"
_LIGHTGCN = "He et al. 2020 (LightGCN, arXiv:2002.02126), section 4.1.2"
_DEEPFM = "Guo et al. 2017 (DeepFM, arXiv:1703.04247), section 3"
_REVISITED = (
    "Rendle et al. 2020, 'Neural collaborative filtering vs. matrix factorization revisited'"
)
_IALS = "Rendle et al. 2022, 'Revisiting the performance of iALS', arXiv:2110.14037"
_KOREN = "Koren 2010, 'Factor in the neighbors', ACM TKDD, section 2.1,"
_SSM = "Wu et al. 2022 (arXiv:2201.02327): softmax gains with more negatives"
_WINDOW = "Verachtert et al. 2022, 'Are we forgetting something?', CEUR-WS 3228, paper 1"
_SASREC = "Kang and McAuley 2018 (SASRec, arXiv:1808.09781), section IV"
_DROSS = "Klenitskiy and Vasilev 2023 (arXiv:2309.07602), section 4"
_GSASREC = "Petrov and Macdonald 2023 (gSASRec, arXiv:2308.07192), section 6: up to 256"

# Default learning rates for default batches of 4096, in place of 0.001 for 1024.
_RATES = {"two_tower": 4e-3, "lightgcn": 4e-3}
_USUAL_RATE = 1e-3


@checks_keywords()
def recommender_space(
    trainer: str,
    *,
    loss: str | Sequence[str] | None = None,
    optimizer: str | Sequence[str] = "adam",
) -> SearchSpace:
    """Return the search space of a recommender's trainer.

    ========================  ==========================================================
    trainer                   what is tuned
    ========================  ==========================================================
    ``popularity``            nothing
    ``last_days_popularity``  days
    ``ease``                  l2
    ``item_knn``              n_neighbors, shrink, similarity
    ``rating_bias``           item_damping, user_damping
    ``als``                   factors, regularization, alpha
    ``bpr_implicit``          factors, learning_rate, regularization
    ``logistic_mf``           factors, learning_rate, regularization
    ``mf``, ``fm``            embedding_size, embedding_l2, batch_size, n_negatives,
                              optimizer
    ``lightgcn``              these and n_layers
    ``neumf``, ``deepfm``,    these of ``mf``, hidden and dropout
    ``two_tower``
    ``sasrec``                embedding_size, n_blocks, dropout, batch_size in users,
                              n_negatives, optimizer; fixed: n_heads, max_length
    ========================  ==========================================================

    The first seven and their defaults are those of the papers and of implicit. Of the others,
    `embedding_l2` is the weight of half the squared norm of the embeddings that a row has used,
    `hidden` the width of the first of two hidden layers, the second of which is half as wide, and
    `n_negatives` is there for a loss that samples. The number of epochs is not in the space: it is
    found by early stopping. A learning-rate schedule joins with ``| schedule_space(...)``. Default
    batches of ``lightgcn`` and ``two_tower`` have 4096 rows, and optimizers whose default learning
    rate is 0.001 begin at 0.004 there.

    Args:
        trainer: One of `RECOMMENDERS`.
        loss: "bce", "bpr", "sampled_softmax" or "softmax", or several of them, which makes the
            loss a parameter; "mse" to predict ratings; None for the trainer's own, the first of its
            `RECOMMENDER_LOSSES`. Only for the last seven, as ``optimizer``.
        optimizer: One of `OPTIMIZERS` and `EXTRA_OPTIMIZERS`, or several, which makes the
            optimizer a parameter.

    Raises:
        InvalidArgument: If the trainer is unknown, or it has no such loss or optimizer.
        InvalidType: If a loss or an optimizer is no name or list of names.

    Example:
        >>> recommender_space("item_knn")
        SearchSpace(
          n_neighbors: 5 .. 800 (log scale), default 200
          shrink: 0 .. 1000, default 10
          similarity: 'cosine' | 'tfidf_cosine' | 'bm25', default 'tfidf_cosine'
        )
        >>> space = recommender_space("lightgcn")
        >>> list(space.distributions())[:5]
        ['embedding_size', 'embedding_l2', 'batch_size', 'n_layers', 'n_negatives']
        >>> space.defaults()["loss"], space.defaults()["n_layers"]
        ('bpr', 3)
    """
    one_of("trainer", trainer, RECOMMENDERS)
    space = space_of(_TRAINERS[trainer])
    losses = RECOMMENDER_LOSSES.get(trainer)
    if losses is None:
        if loss is not None:
            raise InvalidArgument(
                f"`loss` must be None for the trainer {trainer!r}, which has none, got {loss!r}."
            )
        return space
    chosen = losses[0] if loss is None else loss
    return (
        space
        | named_space("loss", chosen, losses, partial(_loss_space, trainer))
        | _optimizer_space(trainer, optimizer)
    )


def _optimizer_space(trainer: str, optimizer: str | Sequence[str]) -> SearchSpace:
    """Return `optimizer_space` with a default learning rate that suits the trainer's batches.

    Where these are larger the rate is, too, in proportion (Goyal et al. 2017, "Accurate, large
    minibatch SGD", section 2.1), of the optimizers whose default is 0.001, as Adam's.
    """
    space = optimizer_space(optimizer)
    names = [optimizer] if isinstance(optimizer, str) else optimizer
    for name in names if trainer in _RATES else ():
        own = optimizer_space(name)
        if own.defaults().get("lr") != _USUAL_RATE:
            continue
        lr: Any = own.distributions()["lr"]
        address = "lr" if isinstance(optimizer, str) else f"{name}.lr"
        # A narrower range moves the default to its end, and a wider one leaves it there.
        for low in (_RATES[trainer], lr.low):
            space = space.override(**{address: (low, lr.high)})
    return space


def _loss_space(trainer: str, loss: str) -> SearchSpace:
    fixed = SearchSpace({"loss": loss})
    rows = _N_NEGATIVES_OF_SASREC if trainer == "sasrec" else _N_NEGATIVES
    return fixed | space_of({"n_negatives": rows[loss]}) if loss in rows else fixed


def _factors(default: int, source: str = _IMPLICIT) -> Row:
    return Row(
        (8, 256, "log"),
        default,
        f"8: {_NCF}; 256: {_TROUBLE} goes to 200, {_REVISITED} to 192; {source}",
    )


def _embedding(
    upper: int, default: int, *, batch_size: int = 1024, largest_batch: int = 4096
) -> dict[str, Row]:
    return {
        "embedding_size": Row(
            (8, upper, "log"),
            default,
            f"8: {_NCF}; {upper}: {_REVISITED} goes to 192 for dot products, networks over "
            f"embeddings to 64 in {_NCF}",
        ),
        "embedding_l2": Row(
            (1e-6, 1e-1, "log"),
            1e-4,
            f"{_LIGHTGCN}: 1e-6 .. 1e-2, default 1e-4; ten times that for small data, where "
            f"{_BPR} and its successors use 0.01 and more",
        ),
        "batch_size": Row(
            (256, largest_batch, "log"),
            batch_size,
            f"{_NCF}: 128 .. 1024, {_LIGHTGCN}: 1024 and 2048; both moved up for speed; a default "
            "above 1024 where it is as good on MovieLens-100K, by validation",
        ),
    }


_NETWORK = {
    "hidden": Row(
        (16, 256, "log"),
        64,
        f"16, 32, 64 as the first layer of towers that halve: {_NCF}; 256: {_DEEPFM} has 100 .. "
        "800, which small data do not need",
    ),
    "dropout": Row((0.0, 0.5), 0.2, f"{_DEEPFM}: 0 .. 0.5; default between its ends"),
}
_N_NEGATIVES = {
    "bce": Row((1, 16, "log"), 4, f"{_NCF} and figure 7: 1 .. 10, best 3 to 6"),
    "bpr": Row((1, 16, "log"), 1, f"{_BPR}: one; as far up as for the other losses"),
    "sampled_softmax": Row((1, 16, "log"), 16, _SSM),
}
_N_NEGATIVES_OF_SASREC = {
    "bce": Row((1, 256, "log"), 1, f"{_SASREC}: one; {_GSASREC}"),
    "sampled_softmax": Row((16, 1024, "log"), 256, f"{_GSASREC}; {_DROSS} goes to 3000"),
}

_TRAINERS: Mapping[str, Mapping[str, Any]] = {
    "popularity": {},
    "last_days_popularity": {
        "days": Row(
            (1.0, 365.0, "log"),
            30.0,
            f"{_WINDOW}: windows of hours to a year; default: a month, as services have it "
            "(Metarank's `trending`)",
        ),
    },
    "ease": {
        "l2": Row(
            (1.0, 1e4, "log"),
            200.0,
            f"the lower half of {_TROUBLE}: 1 .. 1e7; default: best on MovieLens-100K, where Steck "
            "2019 (arXiv:1905.03375) has 500 for MovieLens-20M",
        ),
    },
    "item_knn": {
        "n_neighbors": Row((5, 800, "log"), 200, f"{_KNN}: 5 .. 800; {_ML100K}"),
        "shrink": Row((0, 1000), 10, f"{_KNN}: 0 .. 1000; {_ML100K}"),
        "similarity": Row(
            ["cosine", "tfidf_cosine", "bm25"],
            "tfidf_cosine",
            f"{_KNN}: its feature weightings; {_ML100K}",
        ),
    },
    "rating_bias": {
        "item_damping": Row(
            (0.1, 100.0, "log"),
            5.0,
            f"around the 25 of {_KOREN} for Netflix; {_ML100K}",
        ),
        "user_damping": Row(
            (0.1, 100.0, "log"),
            5.0,
            f"around the 10 of {_KOREN} for Netflix; {_ML100K}",
        ),
    },
    "als": {
        "factors": _factors(64, _ML100K),
        "regularization": Row(
            (1e-3, 1e2, "log"),
            10.0,
            f"{_TROUBLE}: 1e-5 .. 1e-2, which implicit does not scale by a row's length; moved up "
            f"to Hu, Koren, Volinsky 2008, which is near 100; {_ML100K}",
        ),
        "alpha": Row(
            (1.0, 100.0, "log"),
            1.0,
            f"{_TROUBLE}: 1e-3 .. 50, below 1 of which a missing interaction weighs more than one "
            f"that is there; 40 in Hu, Koren, Volinsky 2008; {_IALS} finds it to matter most, "
            f"beside the penalty; {_IMPLICIT}",
        ),
    },
    "bpr_implicit": {
        "factors": _factors(100),
        "learning_rate": Row((1e-4, 1e-1, "log"), 0.01, f"{_TROUBLE}; {_IMPLICIT}"),
        "regularization": Row((1e-5, 1e-1, "log"), 0.01, f"{_TROUBLE}, ten times up; {_IMPLICIT}"),
    },
    "logistic_mf": {
        "factors": _factors(30),
        "learning_rate": Row(
            (0.1, 10.0, "log"), 1.0, "decades(1, 1, 1) around implicit's default, an AdaGrad step"
        ),
        "regularization": Row(
            (0.06, 6.0, "log"), 3.0, f"decades(0.6, 1, 1) around implicit's 0.6; {_ML100K}"
        ),
        # implicit draws at most factors + 2 negatives for a row, so that this changes little.
        "neg_prop": 30,
    },
    "mf": _embedding(256, 64, batch_size=2048),
    "neumf": {**_embedding(128, 32), **_NETWORK},
    "fm": _embedding(256, 64),
    "deepfm": {**_embedding(128, 16), **_NETWORK},
    "two_tower": {
        # Each step computes all items, or as many, however few rows it has.
        **_embedding(256, 64, batch_size=4096, largest_batch=8192),
        # Its scores are cosines, which know no scale, and a strong penalty leaves nothing of them.
        "embedding_l2": Row((1e-6, 1e-3, "log"), 1e-4, f"{_LIGHTGCN}, the lower part"),
        **_NETWORK,
    },
    "lightgcn": {
        # Each step smooths all embeddings, however few rows it has.
        **_embedding(256, 64, batch_size=4096, largest_batch=8192),
        "n_layers": Row((1, 4), 3, f"{_LIGHTGCN}: 1 to 4, default 3"),
    },
    "sasrec": {
        "embedding_size": Row(
            (32, 256, "log"), 64, f"{_SASREC}: 10 .. 50; {_DROSS} and its successors: 64 .. 256"
        ),
        "n_blocks": Row((1, 3), 2, f"{_SASREC}, table IV: 0 to 3, best 2"),
        "dropout": Row((0.0, 0.5), 0.2, f"{_SASREC}: 0.2 on MovieLens-1M, 0.5 on sparse data"),
        "batch_size": Row((32, 512, "log"), 128, f"{_SASREC}: 128; fewer for few users"),
        # One head was better than two (table IV there), and positions beyond 200 hardly help.
        "n_heads": 1,
        "max_length": 200,
    },
}

RECOMMENDERS: tuple[str, ...] = tuple(_TRAINERS)
"""The trainers that `recommender_space` knows."""

RECOMMENDER_LOSSES: Mapping[str, tuple[str, ...]] = {
    "mf": ("bpr", "bce", "sampled_softmax", "softmax", "mse"),
    # The full softmax of a network would compute it for every item in every row.
    "neumf": ("bce", "bpr", "sampled_softmax"),
    "fm": ("bpr", "bce", "sampled_softmax", "softmax", "mse"),
    "deepfm": ("bce", "bpr", "sampled_softmax", "mse"),
    "two_tower": ("sampled_softmax", "bce", "bpr", "softmax"),
    "lightgcn": ("bpr", "bce", "sampled_softmax", "softmax"),
    "sasrec": ("softmax", "sampled_softmax", "bce"),
}
"""Trainer -> the losses that it can be trained with, its own first."""
