"""How long is an epoch with its evaluation, against the peers?

Matrix factorization with the BPR loss and DeepFM with the binary cross-entropy, on MovieLens-100K
($HPOLAB_DATA/ml-100k) or, where that is missing, on made-up tastes of its size. After each epoch
all held-out items are ranked among all items that their users have not seen: HR@10 and NDCG@10.
The rivals are

- loop: what everybody writes. A Dataset that draws a negative by rejection, a DataLoader, a module
  of nn.Embedding, Adam; one user after another through topk.
- recbole: RecBole 1.2.1's own models, data loaders, training epochs and evaluation. It needs a
  NumPy below 2, so a Python of its own runs it. Nothing of it is changed; `ray`, which its quick
  start and tuning import, is left out, and so are its checkpoints, which torch from 2.6 on refuses
  to load. The environment:

    python3.11 -m venv rb
    rb/bin/pip install torch==2.13.0 'numpy<2' 'pandas<2.2' 'scipy<1.13' 'setuptools<81'
    rb/bin/pip install --no-deps recbole==1.2.1
    rb/bin/pip install colorlog==4.7.2 colorama==0.4.4 pyyaml tqdm scikit-learn tensorboard \\
        tabulate texttable thop plotly psutil

The same rows in the same three parts, side features in the same categories, embeddings of 64 (BPR)
or 16 beside a network of 64 and 64 with dropout 0.4 (DeepFM), batches of 2048 positives, a negative
each, Adam at 1e-3, no penalty, one thread. Three things differ: hpolab's matrix factorization has a
bias for each item; RecBole draws wider initial weights; and it drops out before the hidden layers,
not after them. Each measurement is a process of its own, in turn; a first epoch is not counted.
Then each is trained until its NDCG@10 on `valid` has not grown for some epochs and its best epoch
is tested, so that nobody is fast by learning less.

    python benchmarks/recommender.py --recbole rb/bin/python
"""

from __future__ import annotations

import abc
import argparse
import copy
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from _compare import Record, SideCrashed, add_json, measure, version_in
from _table import Row, version_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

# RecBole's Python has no hpolab: it is imported where the other two need it.
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hpolab import Features, Interactions, Splits

BATCH_SIZE, LR, TOP = 2048, 1e-3, 10
SIZES = {"bpr": 64, "deepfm": 16}
HIDDEN, DROPOUT = [64, 64], 0.4
# Users times items in a batch of RecBole's evaluation, by which it is fastest; its own is 4096.
RECBOLE_EVAL_BATCH = {"bpr": 200_000, "deepfm": 4096}


def load() -> tuple[str, Splits]:
    """Return the name of the data, and its parts: each user's last row is for test."""
    from hpolab import DataNotFound, leave_last_out, load_movielens_100k, make_taste_clusters

    try:
        return "MovieLens-100K", leave_last_out(load_movielens_100k())
    except DataNotFound:
        tastes = make_taste_clusters(943, 1682, n_clusters=19, n_per_user=106)
        return "made-up tastes", leave_last_out(tastes.interactions)


class Contender(abc.ABC):
    """One training."""

    @abc.abstractmethod
    def epoch(self) -> None:
        """Train for an epoch."""

    @abc.abstractmethod
    def valid(self) -> float:
        """Rank the items to validate on; return NDCG@10."""

    @abc.abstractmethod
    def keep_best(self) -> None:
        """Take the model as it is for the best so far."""

    @abc.abstractmethod
    def test(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return HR@10 and NDCG@10 of the best model for each user, (u,), by the users' codes."""


class Hpolab(Contender):
    def __init__(self, model: str, seed: int, max_epochs: int) -> None:
        from hpolab import RankingTask, recommender_space
        from hpolab.recommender.training import TorchRecommenderTrainer

        name, loss = {"bpr": ("mf", "bpr"), "deepfm": ("deepfm", "bce")}[model]
        params = recommender_space(name, loss=loss, optimizer="adam").defaults()
        params |= {"embedding_size": SIZES[model], "embedding_l2": 0.0, "n_negatives": 1}
        params |= {"batch_size": BATCH_SIZE, "lr": LR}
        if model == "deepfm":
            params |= {"hidden": HIDDEN, "dropout": DROPOUT}
        _, splits = load()
        train, valid, test = splits.train, splits.valid, splits.test
        trainer = TorchRecommenderTrainer(name)
        # Never left, as the process ends with the training.
        trainer.seeded(seed).__enter__()
        self._training = trainer.start(params, train, seed=seed, max_epochs=max_epochs)
        self._valid = RankingTask(seen=train, held_out=valid)
        self._test = RankingTask(seen=[train, valid], held_out=test)

    def epoch(self) -> None:
        self._training.epoch()

    def valid(self) -> float:
        return self._valid.estimate(self._training.scores, ["hr@10", "ndcg@10"])["ndcg@10"].mean

    def keep_best(self) -> None:
        self._training.keep_best()

    def test(self) -> tuple[NDArray[Any], NDArray[Any]]:
        self._training.load_best()
        ranking = self._test.rank(self._training.scores)
        return ranking.metric("hr@10"), ranking.metric("ndcg@10")


class Loop(Contender):
    def __init__(self, model: str, seed: int, max_epochs: int) -> None:
        random.seed(seed)
        torch.manual_seed(seed)
        _, splits = load()
        train, self._is_bpr = splits.train, model == "bpr"
        self._model = (PlainFactors if self._is_bpr else PlainDeepFM)(train, SIZES[model])
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=LR)
        self._loader = DataLoader(Triples(train), batch_size=BATCH_SIZE, shuffle=True)
        self._items = torch.arange(train.n_items)
        self._valid = self._held_out(splits.valid, [train])
        self._test = self._held_out(splits.test, [train, splits.valid])

    def epoch(self) -> None:
        self._model.train()
        total = 0.0
        for users, positives, negatives in self._loader:
            self._optimizer.zero_grad()
            loss = self._loss(users, positives, negatives)
            loss.backward()
            self._optimizer.step()
            total += loss.item()

    def valid(self) -> float:
        return float(self._evaluate(self._valid)[1].mean())

    def keep_best(self) -> None:
        self._best = copy.deepcopy(self._model.state_dict())

    def test(self) -> tuple[NDArray[Any], NDArray[Any]]:
        self._model.load_state_dict(self._best)
        return self._evaluate(self._test)

    def _loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        if self._is_bpr:
            return -F.logsigmoid(
                self._model(users, positives) - self._model(users, negatives)
            ).mean()
        scores = self._model(torch.cat([users, users]), torch.cat([positives, negatives]))
        labels = torch.cat([torch.ones(len(users)), torch.zeros(len(users))])
        return F.binary_cross_entropy_with_logits(scores, labels)

    @torch.no_grad()
    def _evaluate(self, held_out: list[tuple[int, int, Tensor]]) -> tuple[Any, Any]:
        self._model.eval()
        hits, gains = [], []
        for user, item, seen in held_out:
            scores = self._model(torch.full_like(self._items, user), self._items)
            scores[seen] = -torch.inf
            best = torch.topk(scores, TOP).indices.tolist()
            hits.append(float(item in best))
            gains.append(1 / math.log2(best.index(item) + 2) if item in best else 0.0)
        return np.array(hits), np.array(gains)

    def _held_out(
        self, part: Interactions, seen: list[Interactions]
    ) -> list[tuple[int, int, Tensor]]:
        """Return users, by their codes, each with the item to find and the items seen."""
        of_user: dict[int, list[int]] = {}
        for rows in seen:
            for user, item in zip(rows.users.tolist(), rows.items.tolist(), strict=True):
                of_user.setdefault(user, []).append(item)
        pairs = sorted(zip(part.users.tolist(), part.items.tolist(), strict=True))
        return [(user, item, torch.tensor(of_user[user])) for user, item in pairs]


class Triples(Dataset):
    """Users, items that they took, and items that they did not."""

    def __init__(self, train: Interactions) -> None:
        self._users, self._items = train.users.tolist(), train.items.tolist()
        self._n_items = train.n_items
        self._taken: dict[int, set[int]] = {}
        for user, item in zip(self._users, self._items, strict=True):
            self._taken.setdefault(user, set()).add(item)

    def __len__(self) -> int:
        return len(self._users)

    def __getitem__(self, row: int) -> tuple[int, int, int]:
        user = self._users[row]
        negative = random.randrange(self._n_items)
        while negative in self._taken[user]:
            negative = random.randrange(self._n_items)
        return user, self._items[row], negative


class PlainFactors(nn.Module):
    def __init__(self, train: Interactions, size: int) -> None:
        super().__init__()
        self.users = nn.Embedding(train.n_users, size)
        self.items = nn.Embedding(train.n_items, size)
        for embedding in (self.users, self.items):
            nn.init.normal_(embedding.weight, std=0.01)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.users(users) * self.items(items)).sum(-1)


class PlainDeepFM(nn.Module):
    """One embedding for all columns; a column of several values is a row of weights."""

    def __init__(self, train: Interactions, size: int) -> None:
        super().__init__()
        single, several = [], []
        for n, features in (
            (train.n_users, train.user_features),
            (train.n_items, train.item_features),
        ):
            columns, bags = to_columns(n, features)
            single.append(columns)
            several.append(bags)
        self.user_columns = single[0]
        self.item_columns = single[1] + int(single[0].max()) + 1
        self.user_bags, self.item_bags = several
        bags = [*self.user_bags, *self.item_bags]
        n_columns = self.user_columns.shape[1] + self.item_columns.shape[1]
        self.factors = nn.Embedding(int(self.item_columns.max()) + 1, size)
        self.linear = nn.Embedding(int(self.item_columns.max()) + 1, 1)
        self.bag_factors = nn.ModuleList(nn.Linear(b.shape[1], size, bias=False) for b in bags)
        self.bag_linear = nn.ModuleList(nn.Linear(b.shape[1], 1, bias=False) for b in bags)
        for layer in (self.factors, self.linear, *self.bag_factors, *self.bag_linear):
            nn.init.normal_(layer.weight, std=0.01)
        layers: list[nn.Module] = []
        width = (n_columns + len(bags)) * size
        for hidden in HIDDEN:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(DROPOUT)]
            width = hidden
        self.network = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        columns = torch.cat([self.user_columns[users], self.item_columns[items]], 1)
        bags = [bag[users] for bag in self.user_bags] + [bag[items] for bag in self.item_bags]
        of_bags = [layer(bag) for layer, bag in zip(self.bag_factors, bags, strict=True)]
        factors = torch.cat([self.factors(columns), *(part.unsqueeze(1) for part in of_bags)], 1)
        linear = self.linear(columns).sum(1)
        for layer, bag in zip(self.bag_linear, bags, strict=True):
            linear = linear + layer(bag)
        pairs = (factors.sum(1).square() - factors.square().sum(1)).sum(1, keepdim=True) / 2
        return (linear + pairs + self.network(factors.flatten(1))).squeeze(1)


def to_columns(n: int, features: Features | None) -> tuple[Tensor, list[Tensor]]:
    """Return the codes (n, c) of fields of one value, the id first, and weights (n, v) of others.

    Codes of different columns are different.
    """
    columns, bags = [np.arange(n)], []
    if features is not None:
        for field in range(len(features.names)):
            slots = features.fields == field
            codes, weights = features.codes[:, slots], features.weights[:, slots]
            codes = codes - codes.min()
            if codes.shape[1] == 1:
                columns.append(codes[:, 0] + columns[-1].max() + 1)
                continue
            bag = np.zeros((n, codes.max() + 1), np.float32)
            np.add.at(bag, (np.arange(n)[:, None], codes), weights)
            bags.append(torch.tensor(bag))
    return torch.tensor(np.stack(columns, 1)), bags


class RecBole(Contender):
    def __init__(self, model: str, seed: int, folder: Path) -> None:
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation
        from recbole.utils import get_model, get_trainer, init_seed

        name = {"bpr": "BPR", "deepfm": "DeepFM"}[model]
        settings = recbole_settings(model, seed, folder)
        config = Config(model=name, dataset="data", config_dict=settings)
        init_seed(seed, True)
        self._dataset = create_dataset(config)
        self._train, self._valid, self._test = data_preparation(config, self._dataset)
        self._model = get_model(name)(config, self._train._dataset)
        self._trainer = get_trainer(config["MODEL_TYPE"], name)(config, self._model)
        self._n_epochs = 0

    def epoch(self) -> None:
        self._trainer._train_epoch(self._train, self._n_epochs)
        self._n_epochs += 1

    def valid(self) -> float:
        return float(self._trainer._valid_epoch(self._valid)[0])

    def keep_best(self) -> None:
        # In memory: its own checkpoint cannot be loaded by this torch.
        self._best = copy.deepcopy(self._model.state_dict())

    def test(self) -> tuple[NDArray[Any], NDArray[Any]]:
        self._model.load_state_dict(self._best)
        evaluator, ranked = self._trainer.evaluator, []
        mean_of = evaluator.evaluate
        # Means are all that it returns; the standard errors need each user's.
        evaluator.evaluate = lambda seen: ranked.append(seen.get("rec.topk")) or mean_of(seen)
        means = self._trainer.evaluate(self._test, load_best_model=False)
        found = ranked[0].numpy()[:, :TOP]
        gains = found @ (1 / np.log2(np.arange(TOP) + 2))
        assert abs(gains.mean() - means["ndcg@10"]) < 1e-6
        users = self._dataset.id2token("user_id", self._test.uid_list.numpy()).astype(int)
        order = np.argsort(users)
        return found.any(axis=1)[order].astype(float), gains[order]


def recbole_settings(model: str, seed: int, folder: Path) -> dict[str, Any]:
    columns = {}
    for kind in ("train.inter", "user", "item"):
        path = folder / "data" / f"data.{kind}"
        if path.exists():
            header = path.read_text().partition("\n")[0].split("\t")
            columns[kind.split(".")[-1]] = [column.partition(":")[0] for column in header]
    return {
        "data_path": str(folder),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": columns,
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "seed": seed,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
        "checkpoint_dir": str(folder / "saved"),
        "log_wandb": False,
        # It counts a positive and its negative as two rows of a batch where the loss takes them
        # one by one, and as one row where the loss takes pairs.
        "train_batch_size": BATCH_SIZE * (1 if model == "bpr" else 2),
        "eval_batch_size": RECBOLE_EVAL_BATCH[model],
        "train_neg_sample_args": {
            "distribution": "uniform",
            "sample_num": 1,
            "alpha": 1.0,
            "dynamic": False,
            "candidate_num": 0,
        },
        "learner": "adam",
        "learning_rate": LR,
        "weight_decay": 0.0,
        "embedding_size": SIZES[model],
        "mlp_hidden_size": HIDDEN,
        "dropout_prob": DROPOUT,
        "eval_args": {
            "group_by": "user",
            "order": "TO",
            "split": {"LS": "valid_and_test"},
            "mode": "full",
        },
        "metrics": ["Hit", "NDCG"],
        "topk": [TOP],
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 8,
    }


def write_tables(splits: Splits, folder: Path) -> None:
    """Write the parts and the side features as RecBole reads them."""
    folder.mkdir(parents=True)
    for part in ("train", "valid", "test"):
        rows = getattr(splits, part)
        pairs = zip(rows.users, rows.items, strict=True)
        write_table(folder / f"data.{part}.inter", ["user_id:token", "item_id:token"], pairs)
    for kind in ("user", "item"):
        features = getattr(splits.train, f"{kind}_features")
        if features is None:
            continue
        slots = [np.flatnonzero(features.fields == i) for i in range(len(features.names))]
        types = ["token" if len(of_field) == 1 else "token_seq" for of_field in slots]
        header = [f"{name}:{type_}" for name, type_ in zip(features.names, types, strict=True)]
        cells = np.where(features.weights > 0, features.codes.astype(str), "")
        rows = (
            [code, *(" ".join(filter(None, row[of_field])) for of_field in slots)]
            for code, row in enumerate(cells)
        )
        write_table(folder / f"data.{kind}", [f"{kind}_id:token", *header], rows)


def write_table(path: Path, header: Sequence[str], rows: Any) -> None:
    lines = ["\t".join(map(str, row)) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n")


def work(contender: Contender, arguments: argparse.Namespace) -> Any:
    """Do a child's task; return what is written for its parent."""
    if arguments.child_task == "time":
        contender.epoch()
        contender.valid()
        return [
            {
                "epoch": asdict(measure(contender.epoch)),
                "evaluation": asdict(measure(contender.valid)),
            }
            for _ in range(arguments.epochs)
        ]
    best, best_epoch = -math.inf, 0
    for epoch in range(1, arguments.max_epochs + 1):
        contender.epoch()
        value = contender.valid()
        if value > best:
            best, best_epoch = value, epoch
            contender.keep_best()
        if epoch - best_epoch == arguments.patience:
            break
    hits, gains = contender.test()
    return {"epoch": best_epoch, "valid": best, "hr": hits.tolist(), "ndcg": gains.tolist()}


def run_child(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    sys.argv = sys.argv[:1]  # RecBole reads it
    model, seed, folder = arguments.child_model, arguments.child_seed, Path(arguments.child_folder)
    if arguments.child == "recbole":
        contender: Contender = RecBole(model, seed, folder)
    else:
        contender = {"hpolab": Hpolab, "loop": Loop}[arguments.child](
            model, seed, arguments.max_epochs
        )
    (folder / "answer.json").write_text(json.dumps(work(contender, arguments)))


def ask_child(
    arguments: argparse.Namespace, folder: Path, name: str, model: str, task: str, seed: int
) -> Any:
    command = [arguments.recbole if name == "recbole" else sys.executable, __file__]
    command += ["--child", name, "--child-model", model, "--child-task", task]
    command += ["--child-seed", str(seed), "--child-folder", str(folder)]
    for option in ("epochs", "max_epochs", "patience"):
        command += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
    threads = dict.fromkeys(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
    done = subprocess.run(
        command, env={**os.environ, **threads}, cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        lines = done.stderr.strip().splitlines()
        raise SideCrashed(f"{name}, {model}, {task}: {lines[-1] if lines else done.returncode}")
    return json.loads((folder / "answer.json").read_text())


def print_times(model: str, runs: Mapping[str, list[Any]]) -> None:
    """Print seconds of epochs and evaluations, and ratios of both together, process by process."""
    n_epochs = sum(map(len, runs["hpolab"]))
    print(f"\n{model}: seconds, wall and CPU ({len(runs['hpolab'])} processes, {n_epochs} epochs)")
    for name, processes in runs.items():
        cells = [
            f"{part} {clock} {spread([row[part][clock] for rows in processes for row in rows])}"
            for part in ("epoch", "evaluation")
            for clock in ("wall", "cpu")
        ]
        print(f"  {name:8} {'   '.join(cells)}")
    for name in list(runs)[1:]:
        ratios = []
        for clock in ("wall", "cpu"):
            pairs = zip(runs[name], runs["hpolab"], strict=True)
            ratios.append(
                spread([total(rival, clock) / total(ours, clock) for rival, ours in pairs], 1)
            )
        print(f"  {name} / hpolab: wall {ratios[0]}   cpu {ratios[1]}   (target: >= 3)")


def question_of(model: str, data: str) -> str:
    name = {"bpr": "matrix factorization, BPR", "deepfm": "DeepFM"}[model]
    return f"{name}: an epoch with its full ranking on {data}"


def rows_of(model: str, data: str, runs: Mapping[str, list[Any]], recbole: str | None) -> list[Row]:
    """Return a row for each rival."""
    rivals = {"loop": ("a DataLoader loop", f"(torch {version_of('torch')})")}
    if recbole:
        rivals["recbole"] = ("RecBole", version_in(recbole, "recbole"))
    return [
        Row.of_pairs(
            model if name == "loop" else f"{model}-recbole",
            question_of(model, data),
            [
                (total(ours, "cpu"), total(rival, "cpu"))
                for ours, rival in zip(runs["hpolab"], runs[name], strict=True)
            ],
            peer=rivals[name][0],
            peer_version=rivals[name][1],
            unit="CPU s",
        )
        for name in runs
        if name != "hpolab"
    ]


def total(rows: list[Any], clock: str) -> float:
    """Return the median seconds of an epoch with its evaluation."""
    return statistics.median(row["epoch"][clock] + row["evaluation"][clock] for row in rows)


def print_quality(model: str, runs: Mapping[str, list[Any]]) -> None:
    """Print the test metrics of the best epochs, the mean of all seeds of each user."""
    print(f"\n{model}: test, best epoch by NDCG@10 on valid ({len(runs['hpolab'])} seeds)")
    for name, results in runs.items():
        cells = []
        for metric in ("ndcg", "hr"):
            of_users = np.mean([result[metric] for result in results], axis=0)
            of_seeds = " ".join(f"{np.mean(result[metric]):.4f}" for result in results)
            cells.append(f"{metric}@10 {mean_and_error(of_users)} ({of_seeds})")
            if name != "hpolab":
                ours = np.mean([result[metric] for result in runs["hpolab"]], axis=0)
                cells[-1] += f", hpolab {mean_and_error(ours - of_users, '+.4f')}"
        epochs = " ".join(str(result["epoch"]) for result in results)
        print(f"  {name:8} {'   '.join(cells)}   best epochs {epochs}")


def mean_and_error(values: NDArray[Any], form: str = ".4f") -> str:
    return f"{values.mean():{form}} ± {values.std(ddof=1) / math.sqrt(len(values)):.4f}"


def spread(values: list[float], digits: int = 3) -> str:
    low, middle, high = (f(values) for f in (min, statistics.median, max))
    return f"{middle:.{digits}f} [{low:.{digits}f}..{high:.{digits}f}]"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recbole", help="The Python that has RecBole; without, it is left out.")
    parser.add_argument("--models", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=5, help="Processes of each, to be timed.")
    parser.add_argument("--epochs", type=int, default=5, help="Epochs timed in each.")
    parser.add_argument("--seeds", type=int, default=3, help="Trainings of each to the best epoch.")
    parser.add_argument("--max-epochs", type=int, default=100)
    parser.add_argument("--patience", type=int, default=10)
    for option in ("", "-model", "-task", "-folder"):
        parser.add_argument(f"--child{option}", help=argparse.SUPPRESS)
    add_json(parser)
    parser.add_argument("--child-seed", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.child:
        run_child(arguments)
        return
    names = ["hpolab", "loop", *(["recbole"] if arguments.recbole else [])]
    record = Record(arguments.json)
    title, splits = load()
    facts = splits.facts
    print(f"{title}: {facts['n_users']} users, {facts['n_items']} items, {facts['n_train']} rows")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_tables(splits, folder / "data")
        for model in arguments.models:
            about = question_of(model, title)
            if not arguments.recbole:
                record.add_missing(f"{model}-recbole", about, "RecBole", "recbole")
            with record.survived(model, about, " or ".join(names[1:])):
                compare_on(model, title, names, arguments, folder, record)
    record.finish()


def compare_on(
    model: str,
    data: str,
    names: list[str],
    arguments: argparse.Namespace,
    folder: Path,
    record: Record,
) -> None:
    """Measure one model's times and quality, in turn."""
    for task, n, show in (
        ("time", arguments.repeats, print_times),
        ("best", arguments.seeds, print_quality),
    ):
        runs: dict[str, list[Any]] = {name: [] for name in names}
        for seed in range(n):
            for name in names:
                runs[name].append(ask_child(arguments, folder, name, model, task, seed))
        if n:
            show(model, runs)
        if n and task == "time":
            record.add(*rows_of(model, data, runs, arguments.recbole))


if __name__ == "__main__":
    main()
