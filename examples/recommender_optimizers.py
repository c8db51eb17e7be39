"""Nine optimizers of one recommender: at one shared learning rate, and each in its own space.

pip install 'hpolab[recommender]'
python examples/recommender_optimizers.py ratings.csv 4

DeepFM on a CSV of yours: users, items, ratings and timestamps, of which rows rated 4 and above are
what users liked; without the 4 every row is. Without a file, on MovieLens-100K where $HPOLAB_DATA
has it, else on tastes that are made up. Stopped, it goes on where it was; each step prints its
table, and the first two end in a report each.
"""

import os
import sys
from pathlib import Path

from hpolab import (
    Comparison,
    Interactions,
    RecommenderObjective,
    leave_last_out,
    load_movielens_100k,
    make_study,
    make_taste_clusters,
    recommender_space,
    run,
    write_report,
)

OPTIMIZERS = [
    "adam",
    "adam_amsgrad",
    "adamw",
    "adamax",
    "nadam",
    "sgd",
    "rmsprop",
    "adadelta",
    "adafactor",
]
# What the experiment holds fixed while it compares optimizers.
MODEL = {
    "loss": "bce",
    "n_negatives": 4,
    "batch_size": 2048,
    "embedding_size": 16,
    "embedding_l2": 0.0,
    "hidden": 64,
    "dropout": 0.4,
}
METRICS = ["hr@10", "ndcg@10"]
# NDCG@100 is the steadier guide to NDCG@10, which is what is reported.
TUNED = "ndcg@100"


def print_differences(rankings):
    """Print by how much the first is better than the others on the same users."""
    (first, best), *others = rankings.items()
    print(f"\nOn the test items, {first} is better than another by (± standard error, by user)")
    for name, other in others:
        found = [best.difference(other, metric) for metric in METRICS]
        print(
            f"{name:24} {'':6}   "
            + "  ".join(f"{d.mean:+.4f} ± {d.standard_error:.4f}" for d in found)
        )


def print_rankings(shared, own):
    """Print the ranking at one learning rate beside that of each in its own space."""
    print(f"\nThe two rankings, by {TUNED} on the validation items")
    print(f"     {shared.study_name:22}   {own.study_name}")
    for place, pair in enumerate(zip(shared.ranking(), own.ranking(), strict=True), start=1):
        print(f"{place:3}  " + "   ".join(f"{each.name:14} {each.best_value:.4f}" for each in pair))
    before, after = ([each.name for each in found.ranking()] for found in (shared, own))
    moved = {name: before.index(name) - after.index(name) for name in after}
    up = max(moved, key=moved.get)
    n_moved = sum(map(bool, moved.values()))
    print(f"{n_moved} of {len(moved)} have another place; {up} gains {moved[up]} places.")


def read(path=None, threshold=None):
    """Read a CSV, or take MovieLens-100K, or make tastes up."""
    if path is not None:
        # Without a threshold all ratings mean the same: `rating=None` says so.
        meaning = {"rating": None} if threshold is None else {"threshold": float(threshold)}
        return Interactions.from_file(path, **meaning)
    if "HPOLAB_DATA" in os.environ:
        return load_movielens_100k(threshold=threshold)
    return make_taste_clusters().interactions


def main(
    data=None,
    storage="sqlite:///recommender.db",
    n_trials=20,
    max_epochs=100,
    shared_lr=1e-4,
    n_workers=1,
    folder=".",
    optimizers=OPTIMIZERS,
):
    data = read() if data is None else data
    splits = leave_last_out(data)
    print(f"{data}\n{splits}")

    def tune(name, space, sampler="tpe", n_trials=n_trials, **settings):
        settings = {"metric": TUNED, "max_epochs": max_epochs, **settings}
        objective = RecommenderObjective("deepfm", splits, search_space=space, **settings)
        study = make_study(
            f"deepfm-{name}", storage=storage, objective=objective, sampler=sampler,
            search_space=space, pruner="median" if sampler == "tpe" else "none", seed=0,
        )  # fmt: skip
        run(study, objective, n_trials=n_trials, n_workers=n_workers)
        return objective, study

    def row(label, objective, trial, params):
        model = objective.fit(params, seed=1)
        test = objective.estimates(model, splits.test)
        figures = "  ".join(f"{test[m].mean:.4f} ± {test[m].standard_error:.4f}" for m in METRICS)
        print(f"{label:24} {trial.value:.4f}   {figures}   {model.n_epochs:3} epochs")
        return objective.ranking(model, splits.test)

    def table(title):
        print(f"\n{title}\n{'':24} valid    test: {'          '.join(METRICS)}")

    table("What it must beat")
    baselines = RecommenderObjective("popularity", splits).baselines(splits.test)
    for name, metrics in baselines.items():
        figures = "  ".join(
            f"{metrics[m].mean:.4f} ± {metrics[m].standard_error:.4f}" for m in METRICS
        )
        print(f"{name:24} {'':6}   {figures}")

    # 1. One learning rate for all, everything else at its default: one trial each.
    spaces = {name: recommender_space("deepfm", optimizer=name).override(**MODEL)
              for name in optimizers}  # fmt: skip
    table(f"1. All at the learning rate {shared_lr:g}")
    shared = {}
    for name, space in spaces.items():
        fixed = space.override(**{**space.defaults(), "lr": shared_lr})
        objective, study = tune(f"shared-{name}", fixed, sampler="random", n_trials=1)
        shared[name] = study
        row(name, objective, study.trials[0], fixed.defaults())

    # 2. Each in its own space, for the same number of trials.
    table(f"2. Each in its own space, {n_trials} trials")
    own, rankings = {}, {}
    for name, space in spaces.items():
        objective, study = tune(f"own-{name}", space)
        own[name] = study
        params = space.from_trial(study.best_params)
        label = f"{name} (lr {params['lr']:.2g})"
        rankings[name] = row(label, objective, study.best_trial, params)

    shared, own = Comparison.of(f"at lr {shared_lr:g}", shared), Comparison.of("each tuned", own)
    print_rankings(shared, own)
    order = [each.name for each in own.ranking()]
    print_differences({name: rankings[name] for name in order})
    winner, params = own.ranking()[0].name, own.ranking()[0].best_params
    settings = spaces[winner].override(**params)

    # 3. How long: a number of epochs, against stopping early.
    table(f"3. {winner}: epochs")
    for n_epochs in (max(1, max_epochs // 10), max(1, max_epochs // 3), max_epochs):
        objective, study = tune(
            f"epochs-{n_epochs}", settings, sampler="random", n_trials=1, max_epochs=n_epochs
        )
        row(f"at most {n_epochs}", objective, study.trials[0], params)

    # 4. The learning rate around the best one.
    table(f"4. {winner}: learning rate")
    steps = settings.override(lr=[params["lr"] * factor for factor in (0.1, 0.3, 1.0, 3.0, 10.0)])
    objective, study = tune("lr", steps, sampler="grid", n_trials=5)
    for trial in sorted(study.trials, key=lambda trial: trial.params["lr"]):
        row(f"lr {trial.params['lr']:.2g}", objective, trial, steps.from_trial(trial.params))

    # 5. Embedding size and the penalty on embeddings, which go together.
    table(f"5. {winner}: embedding size and L2")
    sizes = settings.override(embedding_size=[8, 16, 32, 64], embedding_l2=[0.0, 1e-5, 1e-4, 1e-3])
    objective, study = tune("embeddings", sizes, sampler="grid", n_trials=16)
    for trial in sorted(study.trials, key=lambda trial: -(trial.value or 0))[:5]:
        found = sizes.from_trial(trial.params)
        label = f"size {found['embedding_size']}, L2 {found['embedding_l2']:g}"
        row(label, objective, trial, found)

    print(f"\nbest: {winner}, {sizes.from_trial(study.best_params)}")
    reports = [
        write_report(found, Path(folder) / f"recommender-{name}.html")
        for name, found in (("shared", shared), ("tuned", own))
    ]
    print("wrote", ", ".join(map(str, reports)))


if __name__ == "__main__":
    main(read(*sys.argv[1:]))
