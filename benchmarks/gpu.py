"""What does one GPU give a study of small CNNs? One script for ten minutes of it.

    HPOLAB_DATA=... python benchmarks/gpu.py --json gpu.json

Three parts, the most important first; the file is written after each number, so that an end in
the middle loses nothing that was measured.

1. **Training.** Samples a second of the MNIST protocol's CNN (batches of 32, Adam): 64 members as
   one stack, beside one at a time eager and one at a time as a CUDA graph (a stack of one). All
   three draw their rows in the same way from the same tensors on the device.
2. **The study.** Seconds of the clock for 70 trials of 10 epochs, fused, of the MNIST protocol:
   1,000 images to train on, 2,000 read every epoch, 5,000 that rank the trials; AdamW, TPE, a
   median pruner from epoch 5, SQLite. The process has used the device before.
3. **Convolutions.** What `vmap` makes of 64 members' convolutions is a grouped one. Beside it stand
   the same step with cuDNN's grouped convolution channels-last, with unfold and one batched product
   (``baddbmm``), and with nine shifted batched products, each in float32 and bfloat16, all recorded
   as CUDA graphs.

A step that does nothing but wait for memory is the bound that shares are of. Its bytes a sample
are the sum, over the tensors that each operation reads and writes, of their sizes, plus what the
weights need, divided by the batch. With the sizes of activations

    x = 784, c1 = 16·784, p1 = c1 / 4, c2 = 32·196, p2 = c2 / 4

and P = 105,866 weights:

- eager, an operation at a time: forward (x + c1) + 2 c1 + (c1 + p1) + (p1 + c2) + 2 c2 + (c2 + p2)
  + p2, backward 2 p2 + (p2 + c2) + 3 c2 + (c2 + p1) + (c2 + p1) + c2 + (p1 + c1) + 3 c1 + (c1 + x)
  + c1, four bytes each; places of maxima 8 (p1 + p2) each way; weights 25 P / 32 numbers (19 of an
  Adam whose operations are apart);
- compiled, where rectifying and pooling are one pass, and bias gradients come with the weights':
  forward (x + c1) + (c1 + p1) + (p1 + c2) + (c2 + p2) + p2, backward 2 p2 + (p2 + c2) + (c2 + p1)
  + (c2 + p1) + (p1 + c1) + (c1 + x); places (p1 + p2) each way; weights 13 P / 32 (7 of an Adam in
  one pass);
- bfloat16: as compiled, with two bytes an activation; weights stay in float32.

With the 3.35 TB/s of an H100 these are 2.6, 5.5 and 8.5 million samples a second. The device's
bandwidth is that of its data sheet, where torch knows its clock and width, else that of a copy.

Without a GPU, or with ``--stand-in``, the same code runs small on the CPU, without graphs: its
numbers say nothing, but whether it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import torch
from _compare import one_line, write
from mnist_study import BATCH_SIZE, FROM_EPOCH, build_cnn, load
from torch import Tensor
from torch.nn import functional

from hpolab import TorchObjective, __version__, make_study, optimizer_space, run
from hpolab.torch.fused.architecture import Architecture
from hpolab.torch.fused.member import Member
from hpolab.torch.fused.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMES_LONE, TIMES_GRAPHS, SHARE, STUDY_SECONDS = 40.0, 10.0, 0.4, 10.0


class Found:
    """What was measured, printed and saved as it comes.

    Args:
        path: The file; None to save nothing.
        about: The device and versions.
    """

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        self._path = path
        self._all: dict[str, Any] = {"about": about, "rows": [], "targets": []}
        print(json.dumps(about), flush=True)

    def add(self, name: str, **numbers: Any) -> None:
        self._add("rows", name, numbers)

    def add_target(self, name: str, found: float, target: float, *, at_least: bool = True) -> None:
        is_met = found >= target if at_least else found <= target
        numbers = {"found": found, "target": target, "is_met": is_met}
        self._add("targets", f"target: {name}", numbers)

    def _add(self, kind: str, name: str, numbers: dict[str, Any]) -> None:
        self._all[kind].append({"name": name, **numbers})
        shown = ", ".join(f"{key} {_shown(value)}" for key, value in numbers.items())
        print(f"{name:48} {shown}", flush=True)
        if self._path:
            write(self._path, json.dumps(self._all, indent=1))


def _shown(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


# The bound.


def bytes_a_sample(kind: str) -> float:
    """Return the bytes that a step moves for a sample, as said above."""
    x, c1, c2 = 784, 16 * 784, 32 * 196
    p1, p2 = c1 // 4, c2 // 4
    n_weights = (16 * 9 + 16) + (32 * 144 + 32) + (64 * 32 * 49 + 64) + (640 + 10)
    if kind == "eager":
        forward = (x + c1) + 2 * c1 + (c1 + p1) + (p1 + c2) + 2 * c2 + (c2 + p2) + p2
        backward = 2 * p2 + (p2 + c2) + 3 * c2 + 2 * (c2 + p1) + c2
        backward += (p1 + c1) + 3 * c1 + (c1 + x) + c1
        return 4 * (forward + backward) + 16 * (p1 + p2) + 4 * 25 * n_weights / BATCH_SIZE
    forward = (x + c1) + (c1 + p1) + (p1 + c2) + (c2 + p2) + p2
    backward = 2 * p2 + (p2 + c2) + 2 * (c2 + p1) + (p1 + c1) + (c1 + x)
    size = 2 if kind == "bf16" else 4
    return size * (forward + backward) + 2 * (p1 + p2) + 4 * 13 * n_weights / BATCH_SIZE


def bandwidth(device: torch.device) -> tuple[float, str]:
    """Return the device's bytes a second, and whose number that is."""
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        clock, width = (getattr(about, f"memory_{name}", 0) for name in ("clock_rate", "bus_width"))
        if clock and width:
            return 2 * clock * 1e3 * width / 8, "data sheet"
    one = torch.ones(2**28 if device.type == "cuda" else 2**24, device=device)
    other = torch.empty_like(one)
    seconds = 1 / rate(partial(other.copy_, one), device, seconds=0.5)
    return 2 * one.nbytes / seconds, "copy"


def rate(step: Callable[[], Any], device: torch.device, *, seconds: float) -> float:
    """Return how often a function runs in a second, the most of three tries."""
    found = []
    for _ in range(2):  # what compiles, records or allocates does so here
        step()
    wait(device)
    started = time.perf_counter()
    step()
    wait(device)
    n_steps = max(1, round(seconds / 3 / (time.perf_counter() - started)))
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(n_steps):
            step()
        wait(device)
        found.append(n_steps / (time.perf_counter() - started))
    return max(found)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# 1. Training.


def objective_of(splits: Any, device: torch.device, name: str, n_epochs: int) -> TorchObjective:
    return TorchObjective(
        build_cnn,
        train=splits["train"],
        valid=splits["valid"],
        score=splits["score"],
        search_space=optimizer_space(name),
        loss="cross_entropy",
        metric="accuracy",
        max_epochs=n_epochs,
        batch_size=BATCH_SIZE,
        device=str(device),
    )


def training(found: Found, splits: Any, device: torch.device, size: int, seconds: float) -> None:
    """Measure one at a time, one at a time as a graph, and all as one."""
    objective = objective_of(splits, device, "adam", 10)
    params = objective.search_space.defaults()
    n_rows = len(splits["train"][1])
    member = Member.outside(objective, params, 0)
    architecture = Architecture(member.training)

    def lone() -> None:
        with member.random():
            member.training.epoch()

    def stack_of(n_members: int) -> Callable[[], None]:
        members = [(Member.outside(objective, params, seed), None) for seed in range(n_members)]
        return Stack(architecture, members).epoch

    rates = {}
    for name, n_members, epoch in (
        ("one at a time, eager", 1, lone),
        ("one at a time, graphs", 1, stack_of(1)),
        (f"{size} as one", size, stack_of(size)),
    ):
        rates[name] = n_members * n_rows * rate(epoch, device, seconds=seconds)
        found.add(f"training: {name}", samples_per_second=rates[name])
    eager, graphs, fused = rates.values()
    most = bandwidth(device)[0] / bytes_a_sample("eager")
    found.add_target("times one at a time, eager", fused / eager, TIMES_LONE)
    found.add_target("times one at a time, graphs", fused / graphs, TIMES_GRAPHS)
    found.add_target("share of the bound, float32 eager", fused / most, SHARE)


# 2. The study.


def study(found: Found, splits: Any, device: torch.device, n_trials: int, n_epochs: int) -> None:
    """Measure a whole study, fused."""
    objective = objective_of(splits, device, "adamw", n_epochs)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        made = make_study(
            "mnist",
            objective=objective,
            storage=f"sqlite:///{folder}/study.db",
            sampler="tpe",
            pruner=optuna.pruners.MedianPruner(n_warmup_steps=FROM_EPOCH),
            seed=0,
        )
        run(made, objective, n_trials=n_trials, fuse="auto", show_progress_bar=False)
        seconds = time.perf_counter() - started
        n_reports = sum(len(trial.intermediate_values) for trial in made.trials)
        found.add("study", seconds=seconds, n_trials=len(made.trials), n_epochs=n_reports)
        found.add_target("seconds of the study", seconds, STUDY_SECONDS, at_least=False)


# 3. Convolutions.

Convolution = Any
"""Takes inputs (K, n, c, h, w), weights (K, o, c, 3, 3) and biases (K, o); returns (K, n, o, h, w).
"""


def unfolded(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Nine copies of the inputs, and one batched product."""
    k, n, c, h, w = inputs.shape
    padded = functional.pad(inputs.permute(0, 1, 3, 4, 2), (0, 0, 1, 1, 1, 1))
    patches = padded.unfold(2, 3, 1).unfold(3, 3, 1).reshape(k, n * h * w, c * 9)
    outputs = torch.baddbmm(bias[:, None], patches, weight.flatten(2).mT)
    return outputs.reshape(k, n, h, w, -1).permute(0, 1, 4, 2, 3)


def shifted(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Nine batched products, one for each place of the kernel."""
    k, n, c, h, w = inputs.shape
    padded = functional.pad(inputs.permute(0, 1, 3, 4, 2), (0, 0, 1, 1, 1, 1))
    outputs = bias[:, None]
    for i in range(3):
        for j in range(3):
            rows = padded[:, :, i : i + h, j : j + w].reshape(k, n * h * w, c)
            outputs = torch.baddbmm(outputs, rows, weight[..., i, j].mT)
    return outputs.reshape(k, n, h, w, -1).permute(0, 1, 4, 2, 3)


def by_products(convolve: Convolution, images: Tensor, parts: list[Tensor]) -> Tensor:
    """Return the features (K, n, 1568) of images (K, n, 1, 28, 28)."""
    k, n = images.shape[:2]
    for weight, bias in (parts[:2], parts[2:4]):
        images = functional.relu(convolve(images, weight, bias))
        pooled = functional.max_pool2d(images.flatten(0, 1), 2)
        images = pooled.reshape(k, n, *pooled.shape[1:])
    return images.flatten(2)


def grouped(layout: torch.memory_format, images: Tensor, parts: list[Tensor]) -> Tensor:
    """Return the same by cuDNN's grouped convolution, with members' channels side by side."""
    k, n = images.shape[:2]
    x = images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=layout)
    for weight, bias in (parts[:2], parts[2:4]):
        kernels = weight.flatten(0, 1).contiguous(memory_format=layout)
        x = functional.conv2d(x, kernels, bias.flatten(), padding=1, groups=k)
        x = functional.max_pool2d(functional.relu(x), 2)
    return x.reshape(n, k, -1).transpose(0, 1)


WAYS: dict[str, Callable[[Tensor, list[Tensor]], Tensor]] = {
    "grouped, contiguous": partial(grouped, torch.contiguous_format),
    "grouped, channels last": partial(grouped, torch.channels_last),
    "unfold and baddbmm": partial(by_products, unfolded),
    "nine shifted products": partial(by_products, shifted),
}


def make_step(
    way: str, dtype: torch.dtype, splits: Any, device: torch.device, size: int
) -> tuple[Callable[[], None], Tensor]:
    """Return a function that trains ``size`` members for a step, and where it writes their loss."""
    torch.manual_seed(0)
    models = [list(build_cnn({}).parameters()) for _ in range(size)]
    stacked = (torch.stack(each).detach().to(device) for each in zip(*models, strict=True))
    parts = [each.requires_grad_() for each in stacked]
    optimizer = torch.optim.Adam(parts, foreach=True, capturable=device.type == "cuda")
    images, labels = (part.to(device) for part in splits["train"])
    rows = torch.randint(len(labels), (size, BATCH_SIZE), device=device)
    loss = torch.zeros((), device=device)
    is_lower = dtype != torch.float32

    def step() -> None:
        batch = images.index_select(0, rows.flatten()).reshape(size, BATCH_SIZE, 1, 28, 28)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype, enabled=is_lower, cache_enabled=False):
            features = WAYS[way](batch, parts)
            hidden = torch.baddbmm(parts[5][:, None], features, parts[4].mT).sigmoid()
            outputs = torch.baddbmm(parts[7][:, None], hidden, parts[6].mT)
        total = functional.cross_entropy(
            outputs.float().flatten(0, 1), labels[rows.flatten()], reduction="sum"
        )
        (total / BATCH_SIZE).backward()
        optimizer.step()
        loss.copy_(total.detach() / (size * BATCH_SIZE))

    return step, loss


def recorded(step: Callable[[], None]) -> Callable[[], None]:
    """Return a function that replays a step as a CUDA graph."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def convolutions(
    found: Found, splits: Any, device: torch.device, size: int, seconds: float
) -> None:
    """Measure a step of all members by each way."""
    speed, whose = bandwidth(device)
    bounds = {kind: speed / bytes_a_sample(kind) for kind in ("eager", "compiled", "bf16")}
    found.add("bound", bytes_per_second=speed, by=whose, **bounds)
    shares = []
    for dtype in (torch.float32, torch.bfloat16):
        first = None
        for way in WAYS:
            name = f"step: {way}, {str(dtype).removeprefix('torch.')}"
            with kept_on(found, name):
                step, loss = make_step(way, dtype, splits, device, size)
                for _ in range(3):  # the loss that is compared is that of trained weights
                    step()
                difference = 0.0 if first is None else abs(loss.item() - first) / first
                first = first or loss.item()
                step = recorded(step) if device.type == "cuda" else step
                samples = size * BATCH_SIZE * rate(step, device, seconds=seconds)
                most = bounds["eager" if dtype == torch.float32 else "bf16"]
                shares.append(samples / most)
                found.add(
                    name,
                    samples_per_second=samples,
                    share=samples / most,
                    differs_from_first=difference,
                )
    found.add_target("share of the bound, the best step", max(shares, default=0.0), SHARE)


@contextlib.contextmanager
def kept_on(found: Found, name: str) -> Iterator[None]:
    """Note an error as what was found, and go on with what comes after."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - ten minutes of a GPU are too dear to end here
        found.add(name, error=one_line(f"{type(error).__name__}: {error}"))


def main(arguments: list[str] | None = None) -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stand-in", action="store_true", help="run small, on the CPU")
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--json", type=Path, help="save what is found in this file, too")
    options = parser.parse_args(arguments)
    is_small = options.stand_in or not torch.cuda.is_available()
    device = torch.device("cpu" if is_small else "cuda")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = Found(
        options.json,
        {
            "device": platform.machine() if is_small else torch.cuda.get_device_name(device),
            "is_stand_in": is_small,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "python": platform.python_version(),
            "hpolab": __version__,
        },
    )
    splits = load()
    size, seconds, n_trials, n_epochs = options.members, options.seconds, 70, 10
    if is_small:
        size, seconds, n_trials, n_epochs = 4, 0.0, 5, 2
        splits = {name: tuple(part[:96] for part in pair) for name, pair in splits.items()}
    for name, part in (
        ("training", partial(training, found, splits, device, size, seconds)),
        ("study", partial(study, found, splits, device, n_trials, n_epochs)),
        ("convolutions", partial(convolutions, found, splits, device, size, seconds)),
    ):
        with kept_on(found, name):
            part()


if __name__ == "__main__":
    main()
