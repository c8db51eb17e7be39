"""Ranking metrics: by hand, against scikit-learn, in chunks, with ties."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn.metrics import ndcg_score, roc_auc_score

from hpolab import (
    RANKING_METRICS,
    Diverged,
    Interactions,
    InvalidArgument,
    InvalidType,
    Ranking,
    RankingTask,
)
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
        # scikit-learn's gain of tied items is their mean gain, as that over all their orders is.
        assert ndcg[row] == pytest.approx(ndcg_score([truth], [scores], k=cut))


def test_equal_scores_are_no_better_than_chance():
    table, seen, held = random_case()
    ranking = ranked(np.zeros_like(table), seen, held)
    assert ranking.metric("auc") == pytest.approx(0.5)
    assert (ranking.ranks == (ranking.n_candidates + 1) / 2).all()


def test_what_was_seen_is_neither_candidate_nor_found_and_is_counted():
    seen, held = interactions([(0, 0), (0, 1)], 1, 4), interactions([(0, 1), (0, 3)], 1, 4)
    with pytest.warns(UserWarning, match="1 of 2 interactions of `held_out` are in `seen`"):
        task = RankingTask(seen=seen, held_out=held)
    ranking = task.rank(lambda users: np.array([[4.0, 3.0, 2.0, 1.0]]))
    assert ranking.ranks.tolist() == [2.0]
    assert ranking.n_candidates.tolist() == [2]
    assert task.facts["n_held_out_seen"] == 1


@pytest.mark.parametrize("n_compared", [1, 130, 500, 10**6])
def test_memory_is_bounded_by_chunks_that_change_nothing(n_compared, monkeypatch):
    table, seen, held = random_case()
    whole = ranked(table, seen, held, "coverage@5", "log_loss")
    sizes = []
    monkeypatch.setattr(module, "_MAX_CELLS", 500)
    monkeypatch.setattr(module, "_MAX_COMPARED", min(n_compared, 500))

    def scores(users):
        sizes.append(len(users))
        return table[users]

    parts = RankingTask(seen=seen, held_out=held).rank(scores, metrics=["coverage@5", "log_loss"])
    assert sum(sizes) == 40
    assert max(sizes) == 8  # of 60 items each
    for name in ("users", "better", "tied", "n_candidates", "top"):
        assert (getattr(parts, name) == getattr(whole, name)).all()
    assert parts.log_losses == pytest.approx(whole.log_losses)


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


# ----- Ties: the expected value over all orders of what ties, tried one by one.


def hits_at(found: list[int], cut: int) -> int:
    return sum(found[:cut])


def average_precision(found: list[int], cut: int) -> float:
    precisions = [hits_at(found, i + 1) / (i + 1) for i in range(min(cut, len(found))) if found[i]]
    return sum(precisions) / min(cut, sum(found))


def gain(found: list[int], cut: int) -> float:
    return sum(each / math.log2(i + 2) for i, each in enumerate(found[:cut]))


def area(found: list[int]) -> float:
    pairs = [(i, j) for i, a in enumerate(found) for j, b in enumerate(found) if a and not b]
    return sum(i < j for i, j in pairs) / len(pairs)


# Of a list of candidates, the best first: 1 for those that are held out.
OF_A_LIST = {
    "hr": lambda found, k: float(hits_at(found, k) > 0),
    "recall": lambda found, k: hits_at(found, k) / sum(found),
    "precision": lambda found, k: hits_at(found, k) / k,
    "ndcg": lambda found, k: gain(found, k) / gain(sorted(found, reverse=True), k),
    "map": average_precision,
    "mrr": lambda found, k: 1 / (found.index(1) + 1) if hits_at(found, k) else 0.0,
    "auc": lambda found, k: area(found),
}
CUTS = {"auc": [""], "mrr": ["", "@1", "@2", "@3", "@5"]}


def over_all_orders(kind: str, scores: list[float], held: set[int], cut: int) -> float:
    values = []
    for order in itertools.permutations(range(len(scores))):
        listed = sorted(order, key=lambda item: -scores[item])
        values.append(OF_A_LIST[kind]([int(item in held) for item in listed], cut))
    return sum(values) / len(values)


TIED = [
    ([1, 1, 1, 1, 1, 1], {0}),
    ([1, 1, 1, 1, 1, 1], {0, 3, 4}),
    ([2, 1, 1, 1, 0, 0], {0, 1, 4}),
    ([2, 1, 1, 1, 0, 0], {1, 2}),
    ([3, 1, 1, 1, 1, 0], {1, 2, 3}),
    ([1, 1, 1, 0, 0, 0], {0, 1, 2}),
    ([1, 1, 1, 0, 0, 0], {3, 5}),
    ([5, 4, 3, 2, 1, 0], {1, 3}),
    ([2, 2, 1, 1, 0, 0], {0, 2, 3, 4, 5}),
    ([3, 2, 1, 1, 1, 1], {0, 2, 3, 4}),
]


@pytest.mark.parametrize("kind", OF_A_LIST)
@pytest.mark.parametrize(("scores", "held"), TIED)
def test_metric_is_its_mean_over_all_orders_of_what_ties(kind, scores, held):
    seen = interactions([(0, 6)], 1, 7)  # with the best score: it is no candidate
    ranking = ranked(
        np.array([[*scores, 9.0]]), seen, interactions([(0, item) for item in held], 1, 7)
    )
    for cut in CUTS.get(kind, ["@1", "@2", "@3", "@4", "@6", "@7"]):
        expected = over_all_orders(kind, scores, held, int(cut[1:] or 6))
        assert ranking.metric(f"{kind}{cut}").tolist() == pytest.approx([expected], abs=1e-12)


@pytest.mark.parametrize("n_held", [1, 3, 12])
def test_ties_of_many_items_are_as_many_random_orders(n_held):
    rng = np.random.default_rng(0)
    n_items, held = 400, list(range(n_held))
    scores = np.zeros(n_items)
    scores[50:80] = 1.0  # 30 better ones, the others all tie
    seen = interactions([], 1, n_items)
    ranking = ranked(scores[None], seen, interactions([(0, i) for i in held], 1, n_items))
    found = {name: [] for name in ("hr@60", "mrr", "mrr@60", "map@60", "ndcg@60", "recall@60")}
    for _ in range(4000):
        order = np.lexsort((rng.random(n_items), -scores))
        listed = (order < n_held).astype(int).tolist()
        for name, values in found.items():
            kind, _, cut = name.partition("@")
            values.append(OF_A_LIST[kind](listed, int(cut or n_items)))
    for name, values in found.items():
        error = np.std(values) / math.sqrt(len(values))
        assert abs(ranking.estimate(name).mean - np.mean(values)) < 4 * error


@pytest.mark.parametrize("model", ["best", "tied with each other"])
def test_metrics_of_a_perfect_model_are_one(model):
    seen, held = interactions([(0, 0)], 1, 40), interactions([(0, i) for i in (5, 6, 7)], 1, 40)
    table = np.zeros((1, 40))
    table[0, [5, 6, 7]] = 1.0 if model != "best" else [3.0, 2.0, 1.0]
    ranking = ranked(table, seen, held)
    for name in ("hr@1", "precision@1", "precision@3", "ndcg@1", "ndcg@2", "ndcg@9", "map@2"):
        assert ranking.metric(name).tolist() == [1.0]
    assert ranking.metric("mrr").tolist() == ranking.metric("auc").tolist() == [1.0]
    assert ranking.metric("recall@2").tolist() == [2 / 3]


KINDS = [kind for kind in RANKING_METRICS if kind not in ("auc", "log_loss")]


@pytest.mark.parametrize("seed", range(30))
def test_every_metric_stays_in_its_range(seed):
    """Of random problems: few items or many, all levels of ties, whatever is held out or seen."""
    rng = np.random.default_rng(seed)
    n_users, n_items = int(rng.integers(1, 9)), int(rng.integers(2, 40))
    taken = rng.random((n_users, n_items))
    seen, held = taken < rng.random(), taken > rng.random()
    held[0, 0], seen[0, 0] = True, False
    seen &= ~held
    n_levels = int(rng.choice([1, 2, 3, 1000]))
    table = rng.integers(-n_levels, n_levels, (n_users, n_items)) * 10.0 ** rng.integers(-3, 3)
    table = table.astype(rng.choice(["float32", "float64"]))
    n_sampled = None if rng.random() < 0.5 else int(rng.integers(1, 2 * n_items))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        task = RankingTask(
            seen=interactions(np.argwhere(seen).tolist(), n_users, n_items),
            held_out=interactions(np.argwhere(held).tolist(), n_users, n_items),
            n_sampled=n_sampled,
        )
    names = [f"{kind}@{k}" for kind in KINDS for k in range(1, n_items + 1)]
    names += ["mrr", "auc", "log_loss"]
    names = [name for name in names if accepts(task, name)]
    assert len(names) > 5
    ranking = task.rank(lambda users: table[users], metrics=names)
    for name in names:
        mean = ranking.estimate(name).mean
        assert 0 <= mean <= (math.inf if name == "log_loss" else 1), name
        if not name.startswith("coverage"):
            values = ranking.by_user(name)
            assert (values >= 0).all(), name
            assert name == "log_loss" or (values <= 1).all(), name


def accepts(task: RankingTask, name: str) -> bool:
    try:
        return bool(task.check_metric(name))
    except InvalidArgument:
        return False


def test_user_without_another_candidate_is_left_out_of_the_auc_alone():
    seen, held = interactions([(0, 0), (0, 1), (1, 0)], 2, 3), interactions([(0, 2), (1, 1)], 2, 3)
    task = RankingTask(seen=seen, held_out=held)
    assert task.facts["n_users_without_others"] == 1
    ranking = task.rank(lambda users: np.array([[0.0, 0, 0], [0, 1, 0]])[users])
    assert np.isnan(ranking.metric("auc")).tolist() == [True, False]
    assert ranking.by_user("auc").tolist() == [1.0]
    assert ranking.estimate("auc").mean == 1.0
    assert ranking.metric("precision@2").tolist() == [0.5, 0.5]
    assert ranking.metric("hr@1").tolist() == [1.0, 1.0]
    alone = RankingTask(seen=seen, held_out=held, users=np.array([0]))
    with pytest.raises(InvalidArgument, match="`metric` must not be 'auc' where no user has"):
        alone.check_metric("auc")


def test_coverage_counts_neither_what_was_seen_nor_a_tie_twice():
    seen = interactions([(0, 0), (0, 1), (1, 0)], 2, 4)
    held = interactions([(0, 3), (1, 3)], 2, 4)
    ranking = ranked(np.array([[9.0, 9, 1, 1], [9, 5, 5, 5]]), seen, held, "coverage@3")
    assert ranking.top.tolist() == [[2, 3, -1], [1, 2, 3]]
    assert ranking.estimate("coverage@3").mean == 3 / 4
    assert ranking.estimate("coverage@1").mean == 2 / 4
    # Without user 1 item 1 is gone, without user 0 nothing is.
    assert ranking.by_user("coverage@3").tolist() == pytest.approx([5 / 8, 7 / 8])


@pytest.mark.parametrize("most", [1, 7, 8, 40])
def test_users_with_many_held_out_items_are_ranked_as_those_with_few(most):
    rng = np.random.default_rng(most)
    table = np.round(rng.normal(size=(9, 100)), 1).astype(np.float32)
    counts = rng.integers(1, most + 1, 9)
    drawn = [(u, i) for u in range(9) for i in rng.choice(90, counts[u], replace=False)]
    seen = interactions([(u, 99) for u in range(9)], 9, 100)
    ranking = ranked(table, seen, interactions(drawn, 9, 100))
    for user in range(9):
        mine = table[user, sorted(i for u, i in drawn if u == user)]
        others = table[user, :99]
        rows = ranking.users == user
        assert ranking.better[rows].tolist() == sorted((others > v).sum() for v in mine)
        assert sorted(ranking.tied[rows]) == sorted((others == v).sum() for v in mine)


def test_scores_that_are_given_are_not_changed():
    table, seen, held = random_case()
    whole = np.ascontiguousarray(table[np.unique(held.users)])
    before = whole.copy()
    RankingTask(seen=seen, held_out=held).rank(lambda users: whole, metrics=["coverage@3"])
    assert (whole == before).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_scores_of_each_type_are_ranked(dtype):
    table, seen, held = random_case()
    table = np.round(4 * table).astype(dtype)
    expected = ranked(table.astype(np.float64), seen, held)
    assert (ranked(table, seen, held).ranks == expected.ranks).all()


def test_rows_that_repeat_count_once():
    table, seen, held = random_case()
    twice = np.repeat(np.arange(len(seen)), 2), np.repeat(np.arange(len(held)), 2)
    repeated = ranked(table, seen.rows(twice[0]), held.rows(twice[1]))
    assert (repeated.ranks == ranked(table, seen, held).ranks).all()


@pytest.mark.parametrize(
    ("users", "error", "message"),
    [
        (np.array([-1]), InvalidArgument, "`users` must be codes of 0 to 39, got -1"),
        (np.array([40]), InvalidArgument, "`users` must be codes of 0 to 39, got 40"),
        (np.array(["a"]), InvalidType, "`users` must be codes of users, integers"),
        (np.zeros(40, bool), InvalidType, "`users` must be codes of users, integers"),
        (np.array([], np.int64), InvalidArgument, "got none of the 0 `users`"),
    ],
)
def test_users_that_are_no_codes_are_refused(users, error, message):
    _, seen, held = random_case()
    with pytest.raises(error, match=message):
        RankingTask(seen=seen, held_out=held, users=users)


def test_what_was_seen_of_other_items_is_refused():
    seen, held = interactions([(0, 0)], 1, 2), interactions([(0, 1)], 1, 3)
    with pytest.raises(InvalidArgument, match="`seen` must have the items"):
        RankingTask(seen=seen, held_out=held)


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
    _, counts = np.unique(ranking.users, return_counts=True)
    assert (ranking.n_candidates == 20 + np.repeat(counts, counts)).all()
    assert (ranking.ranks <= ranking.n_candidates).all()
    assert (task.rank(lambda users: table[users]).ranks == ranking.ranks).all()
    assert (sampled(20, seed=1).rank(lambda users: table[users]).ranks != ranking.ranks).any()
    assert "20 sampled" in task.facts["ranking"]
    # The sampled items are others: of those that are better, 20 of N are expected.
    whole = ranked(table, seen, held)
    place = np.arange(len(whole.users)) - np.repeat(np.cumsum(counts) - counts, counts)
    others = whole.n_candidates - np.repeat(counts, counts)
    expected = place + 20 * (whole.better - place) / others
    assert ranking.better.mean() == pytest.approx(expected.mean(), rel=0.05)


def test_sampled_candidates_are_all_held_out_items_and_each_other_once():
    seen, held = interactions([(0, 0), (1, 1)], 2, 6), interactions([(0, 1), (0, 4), (1, 4)], 2, 6)
    with pytest.warns(UserWarning, match="sampled candidates"):
        task = RankingTask(seen=seen, held_out=held, n_sampled=5)
    found = task.rank(lambda users: np.array([[9.0, 3, 2, 2, 1, 2], [5, 9, 4, 3, 2, 1]])[users])
    # User 0 has three others, user 1 four: all of them are drawn, none twice.
    assert found.n_candidates.tolist() == [5, 5, 5]
    assert found.better.tolist() == [0, 4, 3]


@pytest.mark.parametrize("metric", ["coverage@5", "log_loss", "ndcg@59"])
def test_what_sampled_candidates_cannot_tell_is_refused(metric):
    with pytest.raises(InvalidArgument, match=f"`metric` must .*{metric}"):
        sampled(20).check_metric(metric)


def test_candidates_of_a_user_do_not_depend_on_who_else_is_ranked(monkeypatch):
    table, seen, held = random_case()
    whole = sampled(20).rank(lambda users: table[users])
    monkeypatch.setattr(module, "_MAX_COMPARED", 500)
    assert (sampled(20).rank(lambda users: table[users]).better == whole.better).all()
    with pytest.warns(UserWarning, match="sampled candidates"):
        task = RankingTask(seen=seen, held_out=held, users=np.array([7, 3]), n_sampled=20)
    some = task.rank(lambda users: table[users])
    assert set(some.users) == {3, 7}
    assert (some.better == whole.better[np.isin(whole.users, [3, 7])]).all()


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (np.zeros((40, 3)), InvalidArgument, r"must return an array of shape \(40, 60\), got"),
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
