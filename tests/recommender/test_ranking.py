"""Ranking metrics: by hand, against scikit-learn, in chunks, with ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn.metrics import ndcg_score, roc_auc_score

from hpolab import Diverged, Interactions, InvalidArgument, Ranking, RankingTask
from hpolab.recommender import ranking as module


def interactions(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> Interactions:
    users, items = np.array(pairs, np.int64).reshape(-1, 2).T
    return Interactions(users, items, np.arange(n_users), np.arange(n_items))


def random_case(n_users: int = 40, n_items: int = 60, n_ties: int = 0, seed: int = 0):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n_users, n_items))
    if n_ties:
        table = np.round(table * n_ties) / n_ties
    taken = rng.random((n_users, n_items))
    seen, held = taken < 0.1, taken > 0.9
    held[:, 0] |= ~held.any(1) & ~seen[:, 0]
    return (
        table,
        interactions(np.argwhere(seen).tolist(), n_users, n_items),
        interactions(np.argwhere(held).tolist(), n_users, n_items),
    )


def ranked(table, seen, held, *metrics: str) -> Ranking:
    task = RankingTask(seen=seen, held_out=held)
    return task.rank(lambda users: table[users], metrics=metrics)


def by_hand(*metrics: str) -> Ranking:
    """Item 0 is seen; items 2 and 4 are held out, at ranks 2 and 4 of 1, 2, 3, 4."""
    table = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]])
    seen, held = interactions([(0, 0)], 1, 5), interactions([(0, 2), (0, 4)], 1, 5)
    return ranked(table, seen, held, *metrics)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("hr@1", 0.0),
        ("hr@2", 1.0),
        ("recall@2", 0.5),
        ("precision@2", 0.5),
        ("ndcg@2", (1 / math.log2(3)) / (1 + 1 / math.log2(3))),
        ("ndcg@4", (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))),
        ("map@4", (1 / 2 + 2 / 4) / 2),
        ("mrr", 1 / 2),
        ("mrr@1", 0.0),
        ("auc", 1 / 4),
    ],
)
def test_metrics_by_hand(metric, expected):
    ranking = by_hand()
    assert ranking.ranks.tolist() == [2.0, 4.0]
    assert ranking.metric(metric).tolist() == pytest.approx([expected])


def test_log_loss_is_over_all_candidates():
    sigmoid = [1 / (1 + math.exp(-score)) for score in (0.8, 0.7, 0.6, 0.5)]
    by_item = [1 - sigmoid[0], sigmoid[1], 1 - sigmoid[2], sigmoid[3]]
    expected = -sum(math.log(p) for p in by_item) / 4
    assert by_hand("log_loss").metric("log_loss").tolist() == pytest.approx([expected])


def test_coverage_counts_what_anybody_is_given():
    table = np.array([[3.0, 2, 1, 0], [3, 2, 1, 0], [3, 0, 1, 2]])
    held = interactions([(0, 2), (1, 2), (2, 2)], 3, 4)
    ranking = ranked(table, interactions([], 3, 4), held, "coverage@2", "coverage@1")
    assert ranking.estimate("coverage@1").mean == 1 / 4
    assert ranking.estimate("coverage@1").standard_error == 0
    assert ranking.estimate("coverage@2").mean == 3 / 4
    # Without user 2 item 3 is gone; without 0 or 1 nothing is: jackknife of 0, 0 and 1 of 4.
    error = math.sqrt(2 / 3 * (2 * (1 / 3) ** 2 + (2 / 3) ** 2)) / 4
    assert ranking.estimate("coverage@2").standard_error == pytest.approx(error)


@pytest.mark.parametrize("n_ties", [0, 2])
@pytest.mark.parametrize("cut", [1, 5, 20])
def test_ndcg_and_auc_are_scikit_learn_s(n_ties, cut):
    table, seen, held = random_case(n_ties=n_ties)
    ranking = ranked(table, seen, held)
    ndcg, auc = ranking.metric(f"ndcg@{cut}"), ranking.metric("auc")
    for row, user in enumerate(np.unique(ranking.users)):
        candidates = seen.matrix()[[user]].toarray()[0] == 0
        truth = held.matrix()[[user]].toarray()[0][candidates]
        scores = table[user][candidates]
        assert auc[row] == pytest.approx(roc_auc_score(truth, scores))
        if not n_ties:  # scikit-learn averages gains over ties, not ranks
            assert ndcg[row] == pytest.approx(ndcg_score([truth], [scores], k=cut))


def test_equal_scores_are_no_better_than_chance():
    table, seen, held = random_case()
    ranking = ranked(np.zeros_like(table), seen, held)
    assert ranking.metric("auc") == pytest.approx(0.5)
    assert (ranking.ranks == (ranking.n_candidates + 1) / 2).all()


def test_what_was_seen_is_neither_candidate_nor_found():
    seen, held = interactions([(0, 0), (0, 1)], 1, 4), interactions([(0, 1), (0, 3)], 1, 4)
    ranking = ranked(np.array([[4.0, 3.0, 2.0, 1.0]]), seen, held)
    assert ranking.ranks.tolist() == [2.0]
    assert ranking.n_candidates.tolist() == [2]


def test_memory_is_bounded_by_chunks_that_change_nothing(monkeypatch):
    table, seen, held = random_case()
    whole = ranked(table, seen, held)
    sizes = []
    monkeypatch.setattr(module, "_MAX_CELLS", 500)

    def scores(users):
        sizes.append(len(users))
        return table[users]

    parts = RankingTask(seen=seen, held_out=held).rank(scores)
    assert len(sizes) > 10
    assert max(sizes) <= 500 // table.shape[1] + 1
    for name in ("users", "ranks", "n_candidates"):
        assert (getattr(parts, name) == getattr(whole, name)).all()


def test_estimate_has_the_standard_error_over_users():
    ranking = ranked(*random_case())
    values = ranking.metric("hr@5")
    estimate = ranking.estimate("hr@5")
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(len(values)))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("ndgc@10", r"`metric` must be one of .*Did you mean 'ndcg@10'"),
        ("hit@10", r"`metric` must be one of .*got 'hit@10'.* Did you mean 'hr@10'\?"),
        ("HitRate@5", r"Did you mean 'hr@5'\?"),
        ("NDCG@10", r"Did you mean 'ndcg@10'\?"),
        ("ndcg_10", r"Did you mean 'ndcg@10'\?"),
        ("hit10", r"Did you mean 'hr@10'\?"),
        ("logloss", r"Did you mean 'log_loss'\?"),
        ("serendipity@10", r"got 'serendipity@10'\.$"),
        ("ndcg", "with a cut of 1 or above"),
        ("ndcg@0", "with a cut of 1 or above"),
        ("ndcg@x", "with a cut of 1 or above"),
        ("auc@5", "with a cut of 1 or above"),
        ("coverage", "with a cut of 1 or above"),
        ("hr@61", "`metric` must cut within the 60 candidates, got 'hr@61'"),
    ],
)
def test_bad_metric_is_refused(metric, message):
    _, seen, held = random_case()
    with pytest.raises(InvalidArgument, match=message):
        RankingTask(seen=seen, held_out=held).check_metric(metric)


def test_several_parts_can_have_been_seen():
    table, seen, held = random_case()
    both = ranked(table, [seen, seen], held)
    assert (both.ranks == ranked(table, seen, held).ranks).all()


def sampled(n: int, seed: int = 0) -> RankingTask:
    _, seen, held = random_case()
    with pytest.warns(UserWarning, match="Krichene and Rendle, KDD 2020"):
        return RankingTask(seen=seen, held_out=held, n_sampled=n, seed=seed)


def test_sampled_metrics_come_with_a_warning_and_the_same_candidates_for_every_model():
    table, seen, held = random_case()
    task = sampled(20)
    ranking = task.rank(lambda users: table[users])
    assert set(ranking.n_candidates) == {21}
    assert ranking.ranks.max() <= 21
    assert (task.rank(lambda users: table[users]).ranks == ranking.ranks).all()
    assert (sampled(20, seed=1).rank(lambda users: table[users]).ranks != ranking.ranks).any()
    assert "20 sampled" in task.facts["ranking"]
    # The sampled items are others: the expected rank among n of N others shrinks by n / N.
    whole = ranked(table, seen, held)
    counts = np.bincount(whole.users, minlength=40)[whole.users]
    expected = 1 + 20 * (whole.ranks - 1) / (whole.n_candidates - counts)
    assert ranking.ranks.mean() == pytest.approx(expected.mean(), rel=0.15)


@pytest.mark.parametrize("metric", ["coverage@5", "log_loss", "ndcg@22"])
def test_what_sampled_candidates_cannot_tell_is_refused(metric):
    with pytest.raises(InvalidArgument, match=f"`metric` must .*{metric}"):
        sampled(20).check_metric(metric)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (np.zeros((40, 3)), InvalidArgument, r"must return an array of shape \(\d+, 60\), got"),
        (np.full((40, 60), np.nan), Diverged, "`scores` must be finite, got NaN or infinity"),
    ],
)
def test_bad_scores_are_refused(table, error, message):
    _, seen, held = random_case()
    with pytest.raises(error, match=message):
        ranked(table, seen, held)


def test_nothing_held_out_is_refused():
    seen = interactions([(0, 0)], 1, 2)
    with pytest.raises(InvalidArgument, match="`held_out` must hold an item"):
        ranked(np.zeros((1, 2)), seen, seen)


ORACLES = {
    "hr@5": "RetrievalHitRate",
    "recall@5": "RetrievalRecall",
    "precision@5": "RetrievalPrecision",
    "ndcg@5": "RetrievalNormalizedDCG",
    "map@60": "RetrievalMAP",  # with a cut it divides by the hits, not by what could be hit
    "mrr": "RetrievalMRR",
    "auc": "RetrievalAUROC",
}


@pytest.mark.parametrize(("metric", "oracle"), ORACLES.items())
def test_metrics_are_those_of_torchmetrics(metric, oracle):
    table, seen, held = random_case()
    estimate = ranked(table, seen, held).estimate(metric)
    candidates = seen.matrix().toarray() == 0
    users = np.flatnonzero((held.matrix().toarray() * candidates).any(axis=1))
    rows, items = np.nonzero(candidates[users])
    _, at, cut = metric.partition("@")
    measure = getattr(torchmetrics.retrieval, oracle)(**({"top_k": int(cut)} if at else {}))
    expected = measure(
        # It passes over what scores 0 or below.
        torch.from_numpy(np.exp(table[users[rows], items])),
        torch.from_numpy(held.matrix().toarray()[users[rows], items].astype(np.int64)),
        indexes=torch.from_numpy(rows),
    )
    assert estimate.mean == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("metric", ["ndcg@5", "recall@10", "mrr", "auc", "log_loss", "coverage@5"])
def test_error_of_a_difference_is_that_over_resampled_users(metric):
    table, seen, held = random_case()
    other = table + 0.5 * np.random.default_rng(1).normal(size=table.shape)
    task = RankingTask(seen=seen, held_out=held)
    one, two = (task.rank(lambda users, t=t: t[users], metrics=[metric]) for t in (table, other))
    found = one.difference(two, metric)
    assert found.mean == pytest.approx(one.estimate(metric).mean - two.estimate(metric).mean)
    if metric.startswith("coverage"):
        return  # drawn twice, a user covers no more: a bootstrap is no oracle of coverage
    by_user = one.metric(metric) - two.metric(metric)
    drawn = np.random.default_rng(2).integers(len(by_user), size=(4000, len(by_user)))
    assert found.standard_error == pytest.approx(by_user[drawn].mean(axis=1).std(), rel=0.1)
    assert found.standard_error < np.hypot(
        one.estimate(metric).standard_error, two.estimate(metric).standard_error
    )


def test_interval_of_a_difference_holds_the_true_one():
    n_users, n_items, held_in = 60, 30, []
    rng = np.random.default_rng(0)
    for _ in range(200):
        hard = rng.normal(size=n_users)  # shared by both models
        held = interactions([(u, 0) for u in range(n_users)], n_users, n_items)
        seen = interactions([(u, 1) for u in range(n_users)], n_users, n_items)
        task = RankingTask(seen=seen, held_out=held)
        rankings = []
        for _ in range(2):
            table = rng.normal(size=(n_users, n_items))
            table[:, 0] += 1 + hard
            rankings.append(task.rank(lambda users, t=table: t[users]))
        found = rankings[0].difference(rankings[1], "mrr")
        held_in.append(abs(found.mean) <= 2 * found.standard_error)
    assert 0.90 <= np.mean(held_in) <= 0.99


def test_difference_of_two_tasks_is_refused():
    table, seen, held = random_case()
    ranking = ranked(table, seen, held)
    part = interactions([(0, 3)], 40, 60)
    with pytest.raises(InvalidArgument, match="`other` must rank the same held-out items"):
        ranking.difference(ranked(table, seen, part), "mrr")


@pytest.mark.parametrize("metric", [*ORACLES, "mrr@3", "log_loss", "coverage@3"])
def test_mean_over_users_is_the_metric_and_their_spread_its_standard_error(metric):
    table, seen, held = random_case()
    ranking = RankingTask(seen=seen, held_out=held).rank(lambda u: table[u], metrics=[metric])
    by_user = ranking.by_user(metric)
    estimate = ranking.estimate(metric)
    assert by_user.shape == (len(np.unique(ranking.users)),)
    assert by_user.mean() == pytest.approx(estimate.mean)
    error = by_user.std(ddof=1) / np.sqrt(len(by_user))
    assert error == pytest.approx(estimate.standard_error)
