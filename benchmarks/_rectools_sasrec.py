"""RecTools' SASRec on interactions in a file; `recommender_sasrec.py` runs it in a Python apart."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.torch_backbone import TransformerTorchBackbone

Arrays = dict[str, np.ndarray]

NO_SCORE = -1e9


class Scaled(TransformerTorchBackbone):
    """Scales embeddings by the root of their size before positions join, as the authors do."""

    def encode_sessions(self, batch: dict[str, torch.Tensor], item_embs: torch.Tensor) -> Any:
        return super().encode_sessions(batch, item_embs * math.sqrt(item_embs.shape[1]))


def dataset_of(arrays: Arrays, *names: str) -> Dataset:
    """Return rows of some parts, in their order."""
    parts = {
        column: np.concatenate([arrays[f"{name}_{column}"] for name in names])
        for column in ("users", "items", "times")
    }
    frame = pd.DataFrame(
        {
            Columns.User: parts["users"],
            Columns.Item: parts["items"],
            Columns.Datetime: pd.to_datetime(parts["times"], unit="s"),
            Columns.Weight: 1.0,
        }
    )
    return Dataset.construct(frame)


def scores_of(model: Any, arrays: Arrays, settings: dict[str, Any], *names: str) -> np.ndarray:
    """Return the scores of all items for all users, whose rows are those of some parts."""
    ranked = model.recommend(
        users=arrays["test_users"], dataset=dataset_of(arrays, *names), k=10**6, filter_viewed=False
    )
    scores = np.full((settings["n_users"], settings["n_items"]), NO_SCORE)
    scores[ranked[Columns.User], ranked[Columns.Item]] = ranked[Columns.Score]
    return scores


def ndcg(scores: np.ndarray, arrays: Arrays) -> float:
    """Return the NDCG@10 of each user's only validation item among those not trained on."""
    scores = scores.copy()
    scores[arrays["train_users"], arrays["train_items"]] = -np.inf
    users, items = arrays["valid_users"], arrays["valid_items"]
    ranks = 1 + (scores[users] > scores[users, items][:, None]).sum(axis=1)
    return float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean())


def main() -> None:
    source, target, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    arrays = dict(np.load(source))
    pytorch_lightning.seed_everything(settings["seed"])
    model = SASRecModel(
        n_factors=settings["embedding_size"],
        n_blocks=settings["n_blocks"],
        n_heads=settings["n_heads"],
        session_max_len=settings["max_length"],
        dropout_rate=settings["dropout"],
        batch_size=settings["batch_size"],
        lr=settings["lr"],
        loss="softmax",
        recommend_torch_device="cpu",
        backbone_type=TransformerTorchBackbone if settings["unscaled"] else Scaled,
    )
    train = dataset_of(arrays, "train")
    seconds, best, best_epoch, test_scores = 0.0, -1.0, 0, None
    for epoch in range(settings["every"], settings["epochs"] + 1, settings["every"]):
        started = time.process_time()
        model.fit_partial(train, min_epochs=settings["every"], max_epochs=settings["every"])
        seconds += time.process_time() - started
        value = ndcg(scores_of(model, arrays, settings, "train"), arrays)
        if value > best:
            best, best_epoch = value, epoch
            test_scores = scores_of(model, arrays, settings, "train", "valid")
        elif epoch - best_epoch >= settings["patience"]:
            break
    np.savez(target, scores=test_scores, seconds=seconds / epoch, epoch=best_epoch)


if __name__ == "__main__":
    main()
