"""What do an epoch, an evaluation and recommendations cost at a million interactions?

Each trainer at the defaults of its space, on made-up interactions: popularity by a power law, users
who mostly take what is of their own taste, 970,112 rows of 20,000 users and 10,000 items, and one
held-out item of each user. Beside it stands the peer that fits:

- als: implicit's own fit and `recommend`.
- ease: RecTools' EASEModel, whose Python is given by ``--rectools``:

    python -m venv peers
    peers/bin/pip install rectools==0.19.0

- mf, deepfm, two_tower, lightgcn: what everybody writes. A Dataset that draws negatives by
  rejection, a DataLoader, a module of nn.Embedding and nn.Linear, Adam; users are ranked by topk.
  It has the same widths, batches and negatives, but no penalty. It runs ``--peer-batches`` batches
  of an epoch, and where scores are dear ``--peer-users`` users, and its figures are scaled to all.

CPU seconds of one thread, and the highest resident memory of the process. Each measurement is a
process of its own, in turn, several times; the median is printed, with the lowest and the highest.
An evaluation ranks the held-out items of all users among all items, by ``--eval-users`` of some of
them, as an objective's ``eval_users`` does after each epoch. Recommendations are the best 10 items
of 6,000 users. How much memory an evaluation adds to that of the training shows that it is bounded.

    python benchmarks/recommender_scale.py --rectools peers/bin/python
    python benchmarks/recommender_scale.py --trainers mf als --items 100000 --no-peers
    python benchmarks/recommender_scale.py --quick
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _compare import Record, add_json
from _table import Row, version_of

# RecTools' Python has neither torch nor hpolab: they are imported where they are used.
if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TRAINERS = ("als", "ease", "mf", "deepfm", "two_tower", "lightgcn")
TOP = 10
STEPS = ("start", "epoch", "evaluate", "recommend")
NAMES = {"implicit": "implicit", "rectools": "RecTools", "loop": "a DataLoader loop"}
TITLES = {
    "als": "ALS",
    "ease": "EASE",
    "mf": "matrix factorization",
    "deepfm": "DeepFM",
    "two_tower": "two-tower",
    "lightgcn": "LightGCN",
}
QUESTIONS = {
    "epoch": "an epoch",
    "evaluate": "an evaluation among all items",
    "recommend": "the best ten items of {n:,} users",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainers", nargs="+", default=list(TRAINERS))
    parser.add_argument("--rows", type=int, default=970_112)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--clusters", type=int, default=50)
    parser.add_argument("--recommend-users", type=int, default=6_000)
    parser.add_argument("--eval-users", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rectools", help="a Python that has RecTools")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--peer-batches", type=int, default=20)
    parser.add_argument("--peer-users", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="small data, to see that it runs")
    add_json(parser)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run_child(*arguments.child, arguments)))
        return
    if arguments.quick:
        arguments.rows, arguments.users, arguments.items = 20_000, 600, 400
        arguments.clusters, arguments.recommend_users, arguments.repeats = 5, 100, 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.npz")
        sizes = (arguments.rows, arguments.users, arguments.items, arguments.clusters)
        np.savez(path, **make_data(*sizes))
        print(f"{arguments.rows:,} rows, {arguments.users:,} users, {arguments.items:,} items")
        record = Record(arguments.json)
        for trainer in arguments.trainers:
            peer = peer_of(trainer, arguments.rectools)
            about = (trainer, f"{trainer}: epoch, evaluation, recommendations")
            if peer is None:
                record.add_missing(*about, "RecTools", "rectools")
            with record.survived(*about, NAMES[peer[0]] if peer else "RecTools"):
                report(trainer, path, arguments, record)
    record.finish()


def make_data(
    n_rows: int, n_users: int, n_items: int, n_clusters: int, seed: int = 0
) -> dict[str, NDArray[np.int64]]:
    """Return users and items of training rows, (n_rows,), and an item held out, (n_users,)."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, n_items + 1) ** 0.8
    activity = rng.lognormal(size=n_users)
    taste, kind = rng.integers(n_clusters, size=n_users), rng.integers(n_clusters, size=n_items)

    def items_of(users: NDArray[np.int64]) -> NDArray[np.int64]:
        items = rng.choice(n_items, size=len(users), p=popularity / popularity.sum())
        own = rng.random(len(users)) < 0.6
        for cluster in range(n_clusters):
            rows, known = np.flatnonzero(own & (taste[users] == cluster)), kind == cluster
            odds = popularity * known / (popularity * known).sum()
            items[rows] = rng.choice(n_items, size=len(rows), p=odds)
        return items

    # Each user's first two pairs come first: one is held out, one is always trained on.
    pairs = np.empty(0, np.int64)
    users = np.repeat(np.arange(n_users), 4)
    while len(pairs) < n_rows + n_users or np.bincount(pairs // n_items).min() < 2:
        pairs = np.unique(np.concatenate([pairs, users * n_items + items_of(users)]))
        users = rng.choice(n_users, size=n_rows // 2, p=activity / activity.sum())
    pairs = rng.permutation(pairs)
    held_out = np.unique(pairs // n_items, return_index=True)[1]
    rest = np.delete(pairs, held_out)
    first = np.unique(rest // n_items, return_index=True)[1]
    train = np.concatenate([rest[first], np.delete(rest, first)])[:n_rows]
    return {
        "users": train // n_items,
        "items": train % n_items,
        "held_out": pairs[held_out] % n_items,
        "sizes": np.array([n_users, n_items]),
    }


def report(trainer: str, path: Path, arguments: argparse.Namespace, record: Record) -> None:
    peer = None if arguments.no_peers else peer_of(trainer, arguments.rectools)
    contenders = {"hpolab": sys.executable} | ({} if peer is None else {peer[0]: peer[1]})
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(arguments.repeats):
        for name, python in contenders.items():
            found[name].append(in_a_process(python, name, trainer, path, arguments))
    for name, results in found.items():
        cells = [f"{step} {spread([each[step] for each in results])}" for step in STEPS]
        both = spread([each["epoch"] + each["evaluate"] for each in results])
        memory = spread([each["memory"] for each in results], ".0f")
        added = spread([each["evaluate_memory"] for each in results], ".0f")
        print(
            f"{trainer:10} {name:9} {'  '.join(cells)}  epoch + evaluate {both} s  "
            f"memory {memory} MB, {added} of them to evaluate"
        )
    if peer is not None:
        ratios = [
            f"{step} {spread([a[step] / b[step] for a, b in zip(*found.values(), strict=True)])}"
            for step in STEPS[1:]
        ]
        print(f"{trainer:10} ratio     {'  '.join(ratios)}", flush=True)
        record.add(*rows_of(trainer, peer[0], arguments, found))


def rows_of(
    trainer: str,
    peer: str,
    arguments: argparse.Namespace,
    found: dict[str, list[dict[str, float]]],
) -> list[Row]:
    """Return the rows of one trainer."""
    package = {"loop": "torch", "rectools": ""}.get(peer, peer)
    version = found[peer][0].get("version") or version_of(package)
    return [
        Row.of_pairs(
            f"{trainer}-{step}",
            f"{TITLES[trainer]}: {question.format(n=arguments.recommend_users)}",
            [(a[step], b[step]) for a, b in zip(*found.values(), strict=True)],
            peer=NAMES[peer],
            peer_version=f"(torch {version})" if peer == "loop" else version,
            unit="CPU s",
            note=f"Made-up data: {arguments.rows:,} interactions of {arguments.users:,} users "
            f"with {arguments.items:,} items",
        )
        for step, question in QUESTIONS.items()
    ]


def peer_of(trainer: str, rectools: str | None) -> tuple[str, str] | None:
    """Return a peer's name and its Python."""
    if trainer == "als":
        return "implicit", sys.executable
    if trainer == "ease":
        return ("rectools", rectools) if rectools else None
    return ("loop", sys.executable) if trainer in MODULES else None


def spread(values: list[float], form: str = ".2f") -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} [{low:{form}}..{high:{form}}]"


def in_a_process(
    python: str, name: str, trainer: str, path: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(threads, "1")
    settings = [f"--recommend-users={arguments.recommend_users}"]
    settings += [f"--peer-batches={arguments.peer_batches}", f"--peer-users={arguments.peer_users}"]
    settings += [f"--eval-users={arguments.eval_users}"] if arguments.eval_users else []
    command = [python, __file__, "--child", f"{name}/{trainer}", str(path), *settings]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_child(contender: str, path: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the CPU seconds of each step, and megabytes."""
    name, trainer = contender.split("/")
    with np.load(path) as arrays:
        data = dict(arrays)
    kinds = {"hpolab": Hpolab, "implicit": Implicit, "rectools": RecTools, "loop": Loop}
    made = kinds[name](trainer, data, arguments)
    # A peer's steps may say which part of the work they did.
    found = {}
    for step in STEPS:
        before, started = megabytes(), time.process_time()
        part = getattr(made, step)()
        found[step] = (time.process_time() - started) / (part or 1.0)
        found[f"{step}_memory"] = megabytes() - before
    return found | {"memory": megabytes(), "version": version_of(name)}


def megabytes() -> float:
    """Return the highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def matrix_of(data: dict[str, NDArray[Any]]) -> Any:
    from scipy.sparse import csr_matrix

    ones = np.ones(len(data["users"]), np.float32)
    return csr_matrix((ones, (data["users"], data["items"])), shape=tuple(data["sizes"]))


class Hpolab:
    def __init__(
        self, trainer: str, data: dict[str, NDArray[Any]], arguments: argparse.Namespace
    ) -> None:
        import torch

        from hpolab import Interactions, RankingTask, recommender_space

        torch.set_num_threads(1)
        n_users, n_items = data["sizes"]
        ids = (np.arange(n_users), np.arange(n_items))
        self._trainer = trainer
        self._params = recommender_space(trainer).defaults()
        self._train = Interactions(data["users"], data["items"], *ids)
        ranked = np.arange(n_users)
        if arguments.eval_users:
            ranked = np.random.default_rng(0).choice(n_users, arguments.eval_users, replace=False)
        held_out = Interactions(ranked, data["held_out"][ranked], *ids)
        self._task = RankingTask(seen=self._train, held_out=held_out)
        self._asked = np.arange(min(arguments.recommend_users, n_users))

    def start(self) -> None:
        from hpolab.recommender.objective import open_trainer

        trainer = open_trainer(self._trainer)
        # Never left, as the process ends with the training.
        trainer.seeded(0).__enter__()
        self._training = trainer.start(self._params, self._train, seed=0, max_epochs=10)

    def epoch(self) -> None:
        self._training.epoch()

    def evaluate(self) -> None:
        self._task.estimate(self._training.scores, ["ndcg@10"])

    def recommend(self) -> None:
        from hpolab import Recommender

        model = Recommender(self._trainer, self._params, 1, self._train, self._training)
        model.recommend(self._asked, k=TOP)


class Implicit:
    def __init__(
        self, trainer: str, data: dict[str, NDArray[Any]], arguments: argparse.Namespace
    ) -> None:
        from hpolab import recommender_space

        self._params = recommender_space(trainer).defaults()
        self._matrix, self._held_out = matrix_of(data), data["held_out"]
        self._n_asked = arguments.recommend_users

    def start(self) -> None:
        from implicit.cpu.als import AlternatingLeastSquares

        self._model = AlternatingLeastSquares(
            **self._params, iterations=1, num_threads=1, random_state=0
        )

    def epoch(self) -> None:
        self._model.fit(self._matrix, show_progress=False)

    def evaluate(self) -> None:
        ndcg(self._best(len(self._held_out)), self._held_out)

    def recommend(self) -> None:
        self._best(self._n_asked)

    def _best(self, n: int) -> NDArray[Any]:
        found = []
        for start in range(0, n, 1000):
            users = np.arange(start, min(start + 1000, n))
            found.append(self._model.recommend(users, self._matrix[users], N=TOP)[0])
        return np.concatenate(found)


class RecTools:
    def __init__(
        self, trainer: str, data: dict[str, NDArray[Any]], arguments: argparse.Namespace
    ) -> None:
        import pandas as pd
        from rectools.dataset import Dataset

        columns = {"user_id": data["users"], "item_id": data["items"], "weight": 1.0}
        frame = pd.DataFrame({**columns, "datetime": pd.Timestamp("2026-01-01")})
        self._dataset = Dataset.construct(frame)
        self._held_out, self._n_asked = data["held_out"], arguments.recommend_users

    def start(self) -> None:
        from rectools.models import EASEModel

        self._model = EASEModel(regularization=200.0)

    def epoch(self) -> None:
        self._model.fit(self._dataset)

    def evaluate(self) -> None:
        ndcg(self._best(len(self._held_out)), self._held_out)

    def recommend(self) -> None:
        self._best(self._n_asked)

    def _best(self, n: int) -> NDArray[Any]:
        # By parts: all scores at once do not fit into every memory.
        found = []
        for start in range(0, n, 1000):
            users = np.arange(start, min(start + 1000, n))
            best = self._model.recommend(users, self._dataset, k=TOP, filter_viewed=True)
            table = np.full((len(users), TOP), -1)
            table[best["user_id"] - start, best["rank"] - 1] = best["item_id"]
            found.append(table)
        return np.concatenate(found)


def ndcg(best: NDArray[Any], held_out: NDArray[Any]) -> float:
    """Return NDCG of the best items (n, k), of which one is sought, (n,)."""
    _, places = np.nonzero(best == held_out[: len(best), None])
    return float((1 / np.log2(places + 2)).sum() / len(best))


class Loop:
    """What everybody writes."""

    def __init__(
        self, trainer: str, data: dict[str, NDArray[Any]], arguments: argparse.Namespace
    ) -> None:
        import torch

        from hpolab import recommender_space

        torch.set_num_threads(1)
        torch.manual_seed(0)
        random.seed(0)
        self._trainer, self._data, self._arguments = trainer, data, arguments
        self._params = recommender_space(trainer).defaults()
        self._n_asked = arguments.recommend_users
        self._matrix = matrix_of(data)

    def start(self) -> None:
        import torch

        self._model = MODULES[self._trainer](self._matrix, self._params)
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=self._params["lr"])

    def epoch(self) -> float:
        import torch
        from torch.utils.data import DataLoader

        rows = Rows(self._data, self._params["n_negatives"])
        loader = DataLoader(rows, batch_size=self._params["batch_size"], shuffle=True)
        self._model.train()
        n_batches = min(self._arguments.peer_batches, len(loader))
        for i, (users, items) in enumerate(loader):
            if i == n_batches:
                break
            self._optimizer.zero_grad()
            scores = self._model(users, torch.stack(items, 1))
            loss_of(self._params["loss"], scores).backward()
            self._optimizer.step()
        return n_batches / len(loader)

    def evaluate(self) -> float:
        n_ranked = len(self._data["held_out"])
        best, part = self._best(n_ranked)
        ndcg(best, self._data["held_out"])
        return part

    def recommend(self) -> float:
        return self._best(self._n_asked)[1]

    def _best(self, n: int) -> tuple[NDArray[Any], float]:
        """Return the best items of users, and of which part of n users."""
        import torch

        n_done = min(n, self._arguments.peer_users) if self._model.is_dear else n
        self._model.eval()
        found = []
        with torch.no_grad():
            for users in torch.arange(n_done).split(500):
                scores = self._model.table(users)
                seen = self._matrix[users.numpy()].tocoo()
                scores[
                    torch.from_numpy(seen.row).long(), torch.from_numpy(seen.col).long()
                ] = -torch.inf
                found.append(torch.topk(scores, TOP).indices.numpy())
        return np.concatenate(found), n_done / n


class Rows:
    """A Dataset of users, each with an item that they took and some that they did not."""

    def __init__(self, data: dict[str, NDArray[Any]], n_negatives: int) -> None:
        self._users, self._items = data["users"].tolist(), data["items"].tolist()
        self._n_items, self._n_negatives = int(data["sizes"][1]), n_negatives
        self._taken: dict[int, set[int]] = {}
        for user, item in zip(self._users, self._items, strict=True):
            self._taken.setdefault(user, set()).add(item)

    def __len__(self) -> int:
        return len(self._users)

    def __getitem__(self, row: int) -> tuple[int, list[int]]:
        user = self._users[row]
        items = [self._items[row]]
        while len(items) <= self._n_negatives:
            item = random.randrange(self._n_items)
            if item not in self._taken[user]:
                items.append(item)
        return user, items


def loss_of(name: str, scores: Any) -> Any:
    """Return the loss of scores (n, 1 + m), the positive's first."""
    import torch
    from torch.nn import functional as F

    if name == "bpr":
        return -F.logsigmoid(scores[:, :1] - scores[:, 1:]).sum(1).mean()
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    if name == "bce":
        return F.binary_cross_entropy_with_logits(scores, labels, reduction="sum") / len(scores)
    return F.cross_entropy(scores, labels)


def plain_factors(matrix: Any, params: dict[str, Any]) -> Any:
    from torch import nn

    class Factors(nn.Module):
        is_dear = False

        def __init__(self) -> None:
            super().__init__()
            self.users = nn.Embedding(matrix.shape[0], params["embedding_size"])
            self.items = nn.Embedding(matrix.shape[1], params["embedding_size"])

        def forward(self, users: Any, items: Any) -> Any:
            return (self.users(users).unsqueeze(1) * self.items(items)).sum(-1)

        def table(self, users: Any) -> Any:
            return self.users(users) @ self.items.weight.T

    return Factors()


def plain_deepfm(matrix: Any, params: dict[str, Any]) -> Any:
    import torch
    from torch import nn

    size, hidden = params["embedding_size"], params["hidden"]

    class DeepFM(nn.Module):
        is_dear = True

        def __init__(self) -> None:
            super().__init__()
            self.users = nn.Embedding(matrix.shape[0], size + 1)
            self.items = nn.Embedding(matrix.shape[1], size + 1)
            self.network = nn.Sequential(*layers_of(2 * size, hidden, params["dropout"], 1))

        def forward(self, users: Any, items: Any) -> Any:
            user = self.users(users).unsqueeze(1).expand(-1, items.shape[1], -1)
            item = self.items(items)
            machine = (user * item)[..., :-1].sum(-1) + user[..., -1] + item[..., -1]
            both = torch.cat([user[..., :-1], item[..., :-1]], -1)
            return machine + self.network(both).squeeze(-1)

        def table(self, users: Any) -> Any:
            items = torch.arange(matrix.shape[1])
            return torch.cat([self(user.view(1), items.view(1, -1)) for user in users])

    return DeepFM()


def layers_of(n_in: int, hidden: int, dropout: float, n_out: int) -> list[Any]:
    from torch import nn

    first = [nn.Linear(n_in, hidden), nn.ReLU(), nn.Dropout(dropout)]
    second = [nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Dropout(dropout)]
    return [*first, *second, nn.Linear(hidden // 2, n_out)]


def plain_towers(matrix: Any, params: dict[str, Any]) -> Any:
    from torch import nn
    from torch.nn import functional as F

    size = params["embedding_size"]

    class Towers(nn.Module):
        is_dear = False

        def __init__(self) -> None:
            super().__init__()
            settings = (size, params["hidden"], params["dropout"], size)
            self.users = nn.Embedding(matrix.shape[0], size)
            self.items = nn.Embedding(matrix.shape[1], size)
            self.user_tower = nn.Sequential(*layers_of(*settings))
            self.item_tower = nn.Sequential(*layers_of(*settings))

        def forward(self, users: Any, items: Any) -> Any:
            user = F.normalize(self.user_tower(self.users(users)), dim=-1)
            item = F.normalize(self.item_tower(self.items(items)), dim=-1)
            return 10 * (user.unsqueeze(1) * item).sum(-1)

        def table(self, users: Any) -> Any:
            user = F.normalize(self.user_tower(self.users(users)), dim=-1)
            return 10 * user @ F.normalize(self.item_tower(self.items.weight), dim=-1).T

    return Towers()


def plain_lightgcn(matrix: Any, params: dict[str, Any]) -> Any:
    """Return LightGCN as its authors wrote it: a sparse matrix product for each layer and step."""
    import torch
    from scipy.sparse import bmat, diags
    from torch import nn

    n_users = matrix.shape[0]
    graph = bmat([[None, matrix], [matrix.T, None]], format="csr")
    scale = diags(1 / np.sqrt(np.maximum(np.diff(graph.indptr), 1)))
    graph = (scale @ graph @ scale).tocoo().astype(np.float32)
    places = torch.tensor(np.stack([graph.row, graph.col]), dtype=torch.int64)
    adjacency = torch.sparse_coo_tensor(
        places, torch.tensor(graph.data), graph.shape, check_invariants=True
    ).coalesce()

    class LightGCN(nn.Module):
        is_dear = False

        def __init__(self) -> None:
            super().__init__()
            self.nodes = nn.Embedding(sum(matrix.shape), params["embedding_size"])
            nn.init.normal_(self.nodes.weight, std=0.1)

        @functools.cached_property
        def _smooth(self) -> tuple[Any, Any]:
            layers = [self.nodes.weight]
            for _ in range(params["n_layers"]):
                layers.append(torch.sparse.mm(adjacency, layers[-1]))
            return torch.split(torch.stack(layers).mean(0), [n_users, matrix.shape[1]])

        def forward(self, users: Any, items: Any) -> Any:
            self.__dict__.pop("_smooth", None)
            user_nodes, item_nodes = self._smooth
            return (user_nodes[users].unsqueeze(1) * item_nodes[items]).sum(-1)

        def table(self, users: Any) -> Any:
            user_nodes, item_nodes = self._smooth
            return user_nodes[users] @ item_nodes.T

    return LightGCN()


MODULES: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "mf": plain_factors,
    "deepfm": plain_deepfm,
    "two_tower": plain_towers,
    "lightgcn": plain_lightgcn,
}


if __name__ == "__main__":
    main()
