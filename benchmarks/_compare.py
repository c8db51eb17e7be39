"""Two rivals in one run: alternating, several repeats, median and spread, ratio.

A script makes a `Record` of its option ``--json`` and gives it to whatever measures. Without the
option it only prints.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from _table import CRASHED, FAILURES, NOT_INSTALLED, Row, Table, section_of, version_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

# Why `run.py` has no environment with the peers in it.
REASON = "HPOLAB_BENCHMARKS_WITHOUT_PEERS"


CLOCKS = {"wall": "ms", "cpu": "CPU ms"}


class SideCrashed(RuntimeError):
    """One side of a comparison raised; says which, where that is known."""

    @classmethod
    def of(cls, error: Exception, side: str = "") -> SideCrashed:
        if isinstance(error, cls):
            return error
        return cls(f"{side}{': ' if side else ''}{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Cost:
    """Seconds of one run."""

    wall: float
    cpu: float


def measure(run: Callable[[], None]) -> Cost:
    """Return what one call costs this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


class Record:
    """The rows of one script, saved as they are found.

    Args:
        path: The file, a table of one section; None to save nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._began = time.monotonic()
        self.rows: list[Row] = []
        if path:
            path.unlink(missing_ok=True)

    def add(self, *rows: Row) -> None:
        """Add rows; the file holds them when this returns."""
        command = f"python benchmarks/{Path(sys.argv[0]).name}"
        self.rows += [replace(row, command=row.command or command) for row in rows]
        if self._path:
            name = Path(sys.argv[0]).stem
            seconds = time.monotonic() - self._began
            section = section_of(self.rows, name, seconds=seconds, is_quick=False)
            write(self._path, Table({name: section}).to_json())

    def add_missing(self, key: str, question: str, peer: str, package: str) -> None:
        """Add a row that says that a peer is not installed."""
        self.add(Row(key, question, peer, status=NOT_INSTALLED, note=reason_without(package)))
        print(f"{question}: {peer} is not installed: {self.rows[-1].note}", flush=True)

    @contextlib.contextmanager
    def survived(self, key: str, question: str, peer: str) -> Iterator[None]:
        """Make a row of a crash, so that what comes after is still measured."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - any error is a crash; `finish` fails for it
            traceback.print_exc()
            note = (
                str(error) if isinstance(error, SideCrashed) else f"{type(error).__name__}: {error}"
            )
            self.add(Row(key, question, peer, status=CRASHED, note=one_line(note)))

    def finish(self) -> None:
        """Leave with a status that is not zero if a side crashed."""
        failed = [row for row in self.rows if row.status in FAILURES]
        if failed:
            sys.exit("; ".join(f"{row.question}: {row.status}: {row.note}" for row in failed))


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option that every script of the table has."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="save the rows of the table in this file, too"
    )


def write(path: Path, text: str) -> None:
    """Write a file beside, then move it, so that whoever stops us finds the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_text(text)
    os.replace(beside, path)


def one_line(text: str, length: int = 160) -> str:
    """Return the start of a text without line breaks."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def has(package: str) -> bool:
    """Whether a package can be imported, by the name it is imported by."""
    return importlib.util.find_spec(package) is not None


def reason_without(package: str) -> str:
    """Return why a package that a peer needs is not here."""
    return os.environ.get(REASON) or f"no package {package}; see benchmarks/peers"


def version_in(python: str | Path, package: str) -> str:
    """Return the version of a package in another Python's environment."""
    program = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def compare(
    title: str,
    ours: Callable[[], None],
    rival: Callable[[], None],
    *,
    n_repeats: int,
    per: int = 1,
    target: str = "",
    record: Record | None = None,
    key: str = "",
    question: str = "",
    peer: str = "Optuna",
    package: str = "optuna",
    clock: str = "wall",
    unit: str = "a trial",
) -> None:
    """Print milliseconds per unit of both, and the ratio pair by pair.

    Args:
        title: What is measured.
        ours: hpolab's run.
        rival: The rival's run; each is run once unmeasured, then in turn.
        n_repeats: Pairs measured.
        per: Units (trials) in one run.
        target: Printed beside the ratio.
        record: Where the row of the table goes. If a side crashes, the row says so, and what comes
            after is still measured.
        key: The row's name.
        question: What is measured, in the words of the table; the title unless given.
        peer: The rival's name.
        package: The rival's package, whose version is told.
        clock: "wall" or "cpu": the one in the table. Waiting for a disk takes no CPU time.
        unit: What one figure is of.
    """
    about = {"key": key or title, "question": question or title, "peer": peer}
    sides = {"hpolab": ours, peer: rival}
    if record is None:
        pairs = in_turn(sides, n_repeats)
    else:
        pairs = []
        with record.survived(**about):
            pairs = in_turn(sides, n_repeats)
        if not pairs:
            return
    print(f"{title}  ({n_repeats} repeats, {per} trials each)")
    of_clock = {}
    for each in ("wall", "cpu"):
        a = [1000 * getattr(pair[0], each) / per for pair in pairs]
        b = [1000 * getattr(pair[1], each) / per for pair in pairs]
        of_clock[each] = list(zip(a, b, strict=True))
        ratios = [x / y for x, y in of_clock[each]]
        print(
            f"  {each:4}  hpolab {_spread(a)} ms   rival {_spread(b)} ms   "
            f"ratio {_spread(ratios, '.3f')}{'   ' + target if target else ''}",
            flush=True,
        )
    if record is not None:
        record.add(
            Row.of_pairs(
                pairs=of_clock[clock],
                peer_version=version_of(package),
                unit=f"{CLOCKS[clock]} {unit}",
                **about,
            )
        )


def in_turn(sides: Mapping[str, Callable[[], None]], n_repeats: int) -> list[tuple[Cost, ...]]:
    """Run each side once unmeasured, then all in turn; return what each run cost."""
    found = []
    for _ in range(n_repeats + 1):
        costs = []
        for name, run in sides.items():
            try:
                costs.append(measure(run))
            except Exception as error:
                raise SideCrashed.of(error, name) from error
        found.append(tuple(costs))
    return found[1:]


def _spread(values: list[float], form: str = ".2f") -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} [{low:{form}}..{high:{form}}]"
