"""RecTools' SASRec on interactions in a file; `recommender_sasrec.py` runs it in a Python apart."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

NO_SCORE = -1e9


def dataset_of(arrays: dict[str, np.ndarray], *names: str) -> Dataset:
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
        epochs=settings["epochs"],
        recommend_torch_device="cpu",
    )
    train = dataset_of(arrays, "train")
    started = time.process_time()
    model.fit(train)
    seconds = time.process_time() - started
    users = arrays["test_users"]
    ranked = model.recommend(
        users=users, dataset=dataset_of(arrays, "train", "valid"), k=10**6, filter_viewed=False
    )
    scores = np.full((settings["n_users"], settings["n_items"]), NO_SCORE)
    scores[ranked[Columns.User], ranked[Columns.Item]] = ranked[Columns.Score]
    np.savez(target, scores=scores, seconds=seconds)


if __name__ == "__main__":
    main()
