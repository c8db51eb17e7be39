"""Tune a trainer that hpolab does not know: another library's, or your own.

pip install 'hpolab[recommender]'
python examples/recommender_outside_trainer.py

A trainer of RecBole, LensKit or any other library joins in the same way: a function of params and a
reporter. Here a small one stands in for it, matrix factorization by gradient descent in NumPy.
"""

import numpy as np

from hpolab import (
    FunctionObjective,
    RankingTask,
    SearchSpace,
    leave_last_out,
    make_study,
    make_taste_clusters,
    run,
)


class OutsideTrainer:
    """What another library gives: built from its configuration, fitted step by step, scoring."""

    def __init__(self, config, train, seed):
        rng = np.random.default_rng(seed)
        self.taken = train.matrix().toarray()
        self.users = rng.normal(0, 0.1, (train.n_users, config["factors"]))
        self.items = rng.normal(0, 0.1, (train.n_items, config["factors"]))
        self.lr, self.l2 = config["lr"], config["l2"]

    def fit_epoch(self):
        for _ in range(10):
            errors = self.taken - self.users @ self.items.T
            self.users += self.lr * (errors @ self.items - self.l2 * self.users)
            self.items += self.lr * (errors.T @ self.users - self.l2 * self.items)

    def predict(self, users):
        return self.users[users] @ self.items.T


def main(storage="sqlite:///outside.db", n_trials=20):
    splits = leave_last_out(make_taste_clusters().interactions)
    valid = RankingTask(seen=splits.train, held_out=splits.valid)

    def train(params, reporter):
        trainer = OutsideTrainer(params, splits.train, reporter.seed)
        for epoch in reporter.steps(50):  # ends early once `patience` epochs brought nothing
            trainer.fit_epoch()
            ndcg = valid.rank(trainer.predict).estimate("ndcg@10")
            reporter.report(ndcg.mean, epoch)  # may end the trial: pruned
        reporter.record(standard_error=ndcg.standard_error)
        return reporter.best_value

    space = SearchSpace(
        {"factors": (2, 32), "lr": (1e-3, 1e-1), "l2": (0.0, 10.0)},
        defaults={"factors": 8, "lr": 0.01, "l2": 1.0},
    )
    objective = FunctionObjective(
        train,
        search_space=space,
        direction="maximize",
        max_steps=50,
        patience=5,
        facts={"metric": "ndcg@10", **splits.facts, **valid.facts},  # stored with the study
    )
    study = make_study("outside", storage=storage, objective=objective, seed=0)
    run(study, objective, n_trials=n_trials)

    best = study.best_trial
    print(f"best NDCG@10 {best.value:.4f} in trial {best.number}: {best.params}")

    # The final model, on items that no trial has seen.
    trainer = OutsideTrainer(space.from_trial(best.params), splits.train, seed=1)
    for _ in range(1 + max(best.intermediate_values, key=best.intermediate_values.get)):
        trainer.fit_epoch()
    test = RankingTask(seen=[splits.train, splits.valid], held_out=splits.test)
    print("on test:", test.estimate(trainer.predict, ["hr@10", "ndcg@10"]))


if __name__ == "__main__":
    main()
