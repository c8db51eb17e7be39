"""Text detection: train once, tune the post-processing many times; from scenes to a report.

    pip install 'hpolab[torch,sklearn,report]'
    python examples/text_detection.py

Scenes are rendered from real digit images, at random places and sizes on cluttered backgrounds:
from MNIST where $HPOLAB_DATA/mnist is, from scikit-learn's digits otherwise. A small fully
convolutional network predicts for each pixel how likely it is text. The post-processing binarizes
that map at `thresh`, finds its components, and keeps the boxes with a mean probability of
`box_thresh`, at most `max_candidates`. What counts is the H-mean of precision and recall at an IoU
of 0.5.

A training takes a hundred times as long as a post-processing. So AdamW and its cosine schedule are
tuned in one study, and the post-processing of each trained network in a study of its own, on other
scenes than those that score it. At the end: is the best better than the trainer's own
configuration, on fresh seeds and scenes that nothing has seen; is it worth it to train on folds;
and what to paste behind the trainer's command. Stopped, it goes on where it was.
"""

import argparse
import io
from functools import partial
from pathlib import Path

import numpy as np
import torch
from optuna.trial import TrialState
from scipy import ndimage
from torch import nn

from hpolab import (
    ArtifactCache,
    DataNotFound,
    SearchSpace,
    StagedObjective,
    as_overrides,
    confirm,
    fold_ensemble,
    load_digits,
    load_mnist,
    make_study,
    recommend,
    run,
    write_report,
)
from hpolab.analysis.statistics import intervals
from hpolab.objectives.epochs import train_epochs

SIDE = 64
# The trainer's own configuration, which must be beaten.
BASELINE = """\
models:
  optimizer: {_target_: torch.optim.AdamW, lr: 4e-4, weight_decay: 1e-4}
  scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: EPOCHS, eta_min: 1e-5}
  head: {thresh: 0.29, box_thresh: 0.25, max_candidates: 600}
"""
# What that trainer calls the parameters, in its configuration and on its command line.
PREFIXES = {
    "lr": "models.optimizer.lr",
    "weight_decay": "models.optimizer.weight_decay",
    "T_max": "models.scheduler.T_max",
    "eta_min": "models.scheduler.eta_min",
}
HEAD = "models.head."
POST_DEFAULTS = {"thresh": 0.29, "box_thresh": 0.25, "max_candidates": 600}
POST_SPACE = SearchSpace(
    {
        "thresh": (0.05, 0.95),
        "box_thresh": (0.05, 0.95),
        "max_candidates": (5, 1_000, "log"),
    },
    defaults=POST_DEFAULTS,
)


def training_space(max_epochs):
    """AdamW and a cosine schedule around the range of 2.5e-4 to 6e-4 that people try by hand."""
    return SearchSpace(
        {
            "lr": (5e-5, 2e-2, "log"),
            "weight_decay": (5e-5, 5e-4, "log"),
            "T_max": (max_epochs, 2 * max_epochs),
            "eta_min": (1e-7, 4e-5, "log"),
        },
        defaults={"lr": 4e-4, "weight_decay": 1e-4, "T_max": max_epochs, "eta_min": 1e-5},
    )


def load_digit_images():
    """Return images of digits, (n, side, side) in [0, 1]."""
    try:
        images, _ = load_mnist()
    except DataNotFound:
        images, _ = load_digits()
    return images[:, 0]


def render_scenes(digits, n_scenes, seed):
    """Draw scenes with known boxes.

    Returns:
        Images, float32 (n, 1, SIDE, SIDE); for each its boxes, int (k, 4): top, left, bottom,
        right, the ends excluded.
    """
    rng = np.random.default_rng(seed)
    scenes = [_render_scene(digits, rng) for _ in range(n_scenes)]
    return np.stack([image for image, _ in scenes])[:, None], [boxes for _, boxes in scenes]


def _render_scene(digits, rng):
    # Clutter: blobs, lines as thick as strokes, and noise.
    image = 0.5 * ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 4)
    image = 0.3 + 0.1 * image / image.std()
    for _ in range(rng.integers(2, 6)):
        row, column = rng.integers(0, SIDE, 2)
        length, width = rng.integers(8, 30), rng.integers(1, 4)
        size = (width, length) if rng.random() < 0.5 else (length, width)
        image[row : row + size[0], column : column + size[1]] += rng.uniform(-0.2, 0.4)
    taken = np.zeros((SIDE, SIDE), bool)
    boxes = []
    for _ in range(rng.integers(2, 6)):
        digit = digits[rng.integers(len(digits))]
        digit = ndimage.zoom(digit, rng.uniform(9, 20) / len(digit), order=1)
        ink = np.argwhere(digit > 0.3)
        top, left = ink.min(axis=0)
        bottom, right = ink.max(axis=0) + 1
        digit = digit[top:bottom, left:right]
        height, width = digit.shape
        row, column = rng.integers(0, SIDE - height), rng.integers(0, SIDE - width)
        around = np.s_[max(row - 2, 0) : row + height + 2, max(column - 2, 0) : column + width + 2]
        if taken[around].any():
            continue
        taken[around] = True
        image[row : row + height, column : column + width] += rng.uniform(0.3, 0.7) * digit
        boxes.append((row, column, row + height, column + width))
    image += rng.normal(scale=0.05, size=image.shape)
    return image.clip(0, 1).astype(np.float32), np.array(boxes)


def shrunk_masks(boxes_of_scenes):
    """Return what the network shall predict: boxes, a pixel smaller on each side, so that
    neighbors stay apart."""
    masks = np.zeros((len(boxes_of_scenes), 1, SIDE, SIDE), np.float32)
    for mask, boxes in zip(masks, boxes_of_scenes, strict=True):
        for top, left, bottom, right in boxes:
            mask[0, top + 1 : bottom - 1, left + 1 : right - 1] = 1
    return masks


def build_net():
    """A fully convolutional network: logits at a quarter of the image's size, drawn back to it."""

    def block(n_in, n_out, stride=1, dilation=1):
        convolution = nn.Conv2d(n_in, n_out, 3, stride, dilation, dilation, bias=False)
        return convolution, nn.BatchNorm2d(n_out), nn.ReLU()

    return nn.Sequential(
        *block(1, 12, stride=2),
        *block(12, 24, stride=2),
        *block(24, 24, dilation=2),
        *block(24, 24),
        nn.Conv2d(24, 16, 1),
        nn.PixelShuffle(4),
    )


class Training:
    """A network in training, between two epochs; `train_epochs` goes through them."""

    def __init__(self, params, images, masks, seed, batch_size=2):
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.net = build_net()
        self.images, self.masks = torch.from_numpy(images), torch.from_numpy(masks)
        self.batch_size = min(batch_size, len(images))
        self.order = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=params["lr"], weight_decay=params["weight_decay"]
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, params["T_max"], eta_min=params["eta_min"]
        )
        self.loss = nn.BCEWithLogitsLoss()
        self.best = None

    def epoch(self):
        self.net.train()
        for rows in torch.randperm(len(self.images), generator=self.order).split(self.batch_size):
            self.optimizer.zero_grad()
            self.loss(self.net(self.images[rows]), self.masks[rows]).backward()
            self.optimizer.step()
        self.schedule.step()

    def loss_on(self, images, masks):
        self.net.eval()
        with torch.no_grad():
            return float(self.loss(self.net(torch.from_numpy(images)), torch.from_numpy(masks)))

    def maps(self, images):
        """Return the probability of text, (n, SIDE, SIDE)."""
        self.net.eval()
        with torch.no_grad():
            return torch.sigmoid(self.net(torch.from_numpy(images)))[:, 0].numpy()

    def keep_best(self):
        self.best = {name: part.clone() for name, part in self.net.state_dict().items()}

    def load_best(self):
        self.net.load_state_dict(self.best)

    def to_bytes(self):
        file = io.BytesIO()
        parts = [part.state_dict() for part in (self.net, self.optimizer, self.schedule)]
        torch.save([*parts, self.order.get_state(), self.best], file)
        return file.getvalue()

    def from_bytes(self, state):
        *parts, order, self.best = torch.load(io.BytesIO(state), weights_only=True)
        for part, saved in zip((self.net, self.optimizer, self.schedule), parts, strict=True):
            part.load_state_dict(saved)
        self.order.set_state(order)


def train(params, reporter, rows=None, *, scenes, max_epochs):
    """The expensive stage: train on scenes, or on some rows of them, and predict all the others.

    Returns:
        Probability maps by part of the data, (n, SIDE, SIDE) each.
    """
    images, boxes = scenes["train"]
    masks = shrunk_masks(boxes)
    if rows is not None:
        images, masks = images[rows], masks[rows]
    training = Training(params, images, masks, reporter.seed)
    valid_images, valid_boxes = scenes["valid"]
    valid_masks = shrunk_masks(valid_boxes)

    def read():
        # Reports go in the direction of the trial's value, whose H-mean gets better upwards.
        return -training.loss_on(valid_images, valid_masks)

    train_epochs(training, reporter, max_epochs, read)
    return {part: training.maps(scenes[part][0]) for part in ("tune", "score", "test")}


def find_boxes(probabilities, thresh, box_thresh, max_candidates):
    """The cheap stage: from a probability map to boxes, the surest first."""
    labels, n_found = ndimage.label(probabilities > thresh)
    if not n_found:
        return np.zeros((0, 4), int)
    sure = ndimage.mean(probabilities, labels, np.arange(1, n_found + 1))
    slices = ndimage.find_objects(labels)
    order = np.argsort(-sure, kind="stable")[:max_candidates]
    # Masks are a pixel smaller than boxes.
    found = [
        (rows.start - 1, columns.start - 1, rows.stop + 1, columns.stop + 1)
        for rows, columns in (slices[place] for place in order if sure[place] >= box_thresh)
    ]
    return np.array(found, int).reshape(-1, 4)


def n_matched(found, boxes):
    """Return how many boxes are found at an IoU of 0.5 or more; there a box has one partner."""
    if not len(found) or not len(boxes):
        return 0
    ends = np.minimum(found[:, None, 2:], boxes[None, :, 2:])
    starts = np.maximum(found[:, None, :2], boxes[None, :, :2])
    shared = np.prod((ends - starts).clip(0), axis=2)
    areas = [np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (found, boxes)]
    iou = shared / (areas[0][:, None] + areas[1][None] - shared)
    return min(int((iou >= 0.5).any(axis=0).sum()), int((iou >= 0.5).any(axis=1).sum()))


def score(maps, post_params, part, *, scenes):
    """Return H-mean, precision and recall over the scenes of a part."""
    found = [find_boxes(each, **post_params) for each in maps[part]]
    boxes = scenes[part][1]
    matched = sum(n_matched(*pair) for pair in zip(found, boxes, strict=True))
    precision = matched / max(sum(map(len, found)), 1)
    recall = matched / max(sum(map(len, boxes)), 1)
    h_mean = 2 * precision * recall / max(precision + recall, 1e-12)
    return {"H-mean": h_mean, "precision": precision, "recall": recall}


def make_scenes(n_scenes, seed=0):
    """Return scenes by the job that they have; no two parts share a digit image."""
    digits = load_digit_images()
    order = np.random.default_rng(seed).permutation(len(digits))
    sizes = {"train": n_scenes, "valid": 20, "tune": 60, "score": 60, "test": 120}
    parts = zip(sizes.items(), np.array_split(order, len(sizes)), strict=True)
    return {
        part: render_scenes(digits[rows], n, [seed, place])
        for place, ((part, n), rows) in enumerate(parts)
    }


def make_objective(scenes, *, max_epochs, n_post_trials, **settings):
    return StagedObjective(
        partial(train, scenes=scenes, max_epochs=max_epochs),
        partial(score, scenes=scenes),
        search_space=training_space(max_epochs),
        post_space=POST_SPACE,
        direction="maximize",
        max_steps=max_epochs,
        metric="H-mean",
        n_post_trials=n_post_trials,
        parts=("tune", "score"),
        data=scenes,
        **settings,
    )


def try_recommended(study, objective, config):
    """Try the hybrid, as one trial more, where it is not yet tried.

    Returns:
        The baseline as the configuration file has it, and the best, robust and hybrid trial's
        numbers, as far as they are not the baseline's.
    """
    found = recommend(study, baseline=config, prefixes=PREFIXES)
    if "recommended" not in study.user_attrs:  # once: the hybrid's own trial changes what is best
        numbers = {name: found[name].trial for name in ("best", "robust", "hybrid")}
        if not found.hybrid.tried:
            numbers["hybrid"] = len(study.trials)
            found.enqueue(study, "hybrid")
        study.set_user_attr("recommended", numbers)
    run(study, objective, n_trials=len(study.trials))
    numbers = study.user_attrs["recommended"]
    print("\n" + ", ".join(f"{name}: trial {number}" for name, number in numbers.items()))
    # A pruned trial has its last report for a value.
    complete = {t.number for t in study.trials if t.state == TrialState.COMPLETE}
    return found.baseline, complete & set(numbers.values()) - {0}


def print_baseline_as_it_came(objective, confirmed, scenes):
    """Print what the baseline has with its own post-processing, on the confirmation's seeds."""
    values = [
        score(
            objective.artifact(confirmed.baseline.params, seed),
            POST_DEFAULTS,
            "test",
            scenes=scenes,
        )["H-mean"]
        for seed in confirmed.baseline.scores
    ]
    mean, low, high = intervals(values)
    print(f"The baseline with its own post-processing: {mean:.4f} ({low:.4f} to {high:.4f})")


def ensemble_of(objective, params, study, *, n_rows, n_folds, n_seeds):
    def fit(params, seed, rows):
        return objective.artifact(params, seed, rows=rows)

    def h_mean(maps):
        return objective.evaluate(objective.tuned(maps), "test")["H-mean"]

    return fold_ensemble(
        fit,
        params,
        metric=h_mean,
        direction="maximize",
        n_rows=n_rows,
        folds=n_folds,
        n_seeds=n_seeds,
        study=study,
    )


def main(
    storage="sqlite:///text_detection.db",
    n_trials=16,
    max_epochs=10,
    n_scenes=100,
    n_post_trials=30,
    n_seeds=5,
    n_folds=5,
    n_ensembles=3,
    folder=".",
):
    scenes = make_scenes(n_scenes)
    cache = ArtifactCache(Path(folder) / "text_detection.artifacts")
    objective = make_objective(
        scenes, max_epochs=max_epochs, n_post_trials=n_post_trials, cache=cache
    )
    study = make_study("text-detection", storage=storage, objective=objective, seed=0)
    run(study, objective, n_trials=n_trials)

    config = Path(folder) / "text_detection.yaml"
    config.write_text(BASELINE.replace("EPOCHS", str(max_epochs)))
    baseline, numbers = try_recommended(study, objective, config)
    confirmed = confirm(
        study,
        objective,
        test="test",
        trials=numbers or None,
        top_k=1,  # where nothing is better than the baseline: the best of the rest
        baseline=baseline,
        n_seeds=n_seeds,
    )
    print(f"\n{confirmed}")
    print_baseline_as_it_came(objective, confirmed, scenes)

    final = recommend(study, confirmed, prefixes=PREFIXES)
    print(f"\n{final}")
    ensemble = ensemble_of(
        objective, final.best.params, study, n_rows=n_scenes, n_folds=n_folds, n_seeds=n_ensembles
    )
    print(f"\n{ensemble}")

    tuned = objective.tune(study, final.best.trial)
    print("\nTo paste behind the trainer's command, the best on the test scenes:")
    print(final.to_overrides("best"))
    print("\n".join(as_overrides(tuned.post_params, prefix=HEAD, digits=3)))
    report = write_report(study, Path(folder) / "text_detection.html", prefixes=PREFIXES)
    print(f"\nwrote {report}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", default="sqlite:///text_detection.db")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--post-trials", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ensembles", type=int, default=3)
    parser.add_argument("--folder", default=".")
    args = parser.parse_args()
    main(
        args.storage,
        args.trials,
        args.epochs,
        args.scenes,
        args.post_trials,
        args.seeds,
        n_ensembles=args.ensembles,
        folder=args.folder,
    )
