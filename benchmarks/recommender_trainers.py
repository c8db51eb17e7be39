"""How good is each trainer on MovieLens-100K, tuned alike: leave one out by time, full ranking?

Each trainer is tuned for the same number of trials on the validation items by NDCG@100, the
steadier guide; its best configuration is then trained on several fresh seeds and scored on the test
items, once as trained with the validation items kept for early stopping, and once refitted on both.

    python benchmarks/recommender_trainers.py
    python benchmarks/recommender_trainers.py --ties first-appearance

Which of a user's interactions is the last is a matter of chance for 44 of 100 users: several have
the last timestamp, and figures depend on how such ties are broken, by half their size. hpolab
draws; ``--ties first-appearance`` takes for the last one the item that came last into the file, as
code does that numbers items as they come and sorts by (time, number).

MovieLens-100K is read from $HPOLAB_DATA/ml-100k. Studies are kept in recommender-trainers.db:
started again it goes on.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace

import numpy as np
import torch

from hpolab import (
    RECOMMENDERS,
    Interactions,
    RecommenderObjective,
    leave_last_out,
    load_movielens_100k,
    make_study,
    recommender_space,
    run,
)

METRICS = ("hr@10", "ndcg@10")
# Full softmax beside BPR for matrix factorization; all others with their own loss.
TRAINERS = {name: (name, {}) for name in RECOMMENDERS if name != "rating_bias"} | {
    "mf, softmax": ("mf", {"loss": "softmax"})
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainers", nargs="+", choices=list(TRAINERS), default=list(TRAINERS))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-epochs", type=int, default=150)
    parser.add_argument("--storage", default="sqlite:///recommender-trainers.db")
    parser.add_argument("--ties", choices=["drawn", "first-appearance"], default="drawn")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    splits = leave_last_out(load(arguments.ties))
    print(
        f"{'':14}{'HR@10':>18}{'NDCG@10':>18}{'refitted HR@10':>18}{'NDCG@10':>10}"
        f"{'epochs':>9}{'seconds':>9}   best parameters"
    )
    for label in arguments.trainers:
        trainer, settings = TRAINERS[label]
        space = recommender_space(trainer, **settings)
        objective = RecommenderObjective(
            trainer,
            splits,
            search_space=space,
            metric="ndcg@100",
            metrics=METRICS,
            max_epochs=arguments.max_epochs,
        )
        started = time.process_time()
        study = make_study(
            f"{label}, ties {arguments.ties}",
            storage=arguments.storage,
            objective=objective,
            pruner="median",
            seed=0,
        )
        # Without a parameter there is nothing to try twice.
        n_trials = arguments.trials if space.distributions() else 1
        run(study, objective, n_trials=n_trials, show_progress_bar=False)
        report(label, objective, space.from_trial(study.best_params), arguments.seeds, started)


def load(ties: str) -> Interactions:
    data = load_movielens_100k()
    if ties == "drawn":
        return data
    _, first_rows = np.unique(data.items, return_index=True)
    appearance = np.argsort(np.argsort(first_rows))
    return replace(data, timestamps=data.timestamps + appearance[data.items] / data.n_items)


def report(label, objective, params, n_seeds, started) -> None:
    test = objective.splits.test
    models = [objective.fit(params, seed=seed) for seed in range(1, n_seeds + 1)]
    refitted = [
        objective.refit(params, seed=seed, n_epochs=model.n_epochs)
        for seed, model in enumerate(models, start=1)
    ]
    before, after = (
        [objective.estimates(model, test) for model in each] for each in (models, refitted)
    )
    cells = []
    for metric in METRICS:
        mean = np.mean([estimates[metric].mean for estimates in before])
        error = np.mean([estimates[metric].standard_error for estimates in before])
        cells.append(f"{mean:.4f} ± {error:.4f}")
    again = [np.mean([estimates[metric].mean for estimates in after]) for metric in METRICS]
    n_epochs = np.mean([model.n_epochs for model in models])
    brief = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in params.items()
    )
    print(
        f"{label:14}{cells[0]:>18}{cells[1]:>18}{again[0]:18.4f}{again[1]:10.4f}"
        f"{n_epochs:9.0f}{time.process_time() - started:9.0f}   {brief}",
        flush=True,
    )


if __name__ == "__main__":
    main()
