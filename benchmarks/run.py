"""Measure hpolab beside its peers, all of it by one command, and make one table.

Each section runs scripts of this folder one after the other. A script runs hpolab and a peer in
turn: the same model code, data and threads, and the peer used as its documentation says. A section
that is done is saved at once: an interruption loses only the section that was being measured. The
table is saved as table.json (for the documentation) and table.txt (for people).
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from _compare import REASON, one_line, write
from _documents import write_documents
from _peers import NotInstalled, default_folder, python_of
from _rows import read_rows
from _table import (
    CRASHED,
    FAILURES,
    TOO_LONG,
    Row,
    Table,
    TableError,
    section_lines,
    section_of,
    summary,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TextIO

    from _table import Section

HERE = Path(__file__).parent
RESULTS = HERE / "results"
QUICK_RESULTS = HERE.parent / "build" / "benchmarks"

EXAMPLES = """\
examples:
  python benchmarks/run.py                        the whole table: about half an hour on two cores
  python benchmarks/run.py --quick                does every section run? five minutes at most
  python benchmarks/run.py --list                 what the sections are, and what they take
  python benchmarks/run.py --only storage,fused   two sections; the others stay in the table
  python benchmarks/run.py --full --only lightgbm one section with its scripts' own, larger sizes
  python benchmarks/run.py --write-docs           the table into README.md and docs/benchmarks.md

Peers that hpolab's environment does not have (FLAML, Ray Tune, Keras Tuner, RecTools, RecBole) are
installed into environments under --peers FOLDER, once; benchmarks/peers/*.txt says which versions
and why. Where that fails, as without a network, their rows say "not installed", and the rest is
measured. --quick makes no environment. Data sets that no package ships (MNIST, MovieLens, tables)
are read from the folder that the environment variable HPOLAB_DATA names.

A ratio is hpolab's figure divided by the peer's: below 1, hpolab takes less. Rows in **asterisks**
are those where the peer is ahead. The exit status is 0 unless a side crashed or hung.
"""


@dataclass(frozen=True)
class Step:
    """One script of a section.

    Attributes:
        script: Its name in this folder.
        sizes: Its arguments for the table.
        quick: Its arguments for ``--quick``; None leaves it out there.
        environment: The peers' environment whose Python runs it; "" for this one.
        pythons: Option -> the peers' environment whose Python the script is given.
        without: Further arguments where the environment is not there.
        minutes: When it is stopped.
        threads: Threads of BLAS and OpenMP; 0 leaves them to the libraries.
        full: Its arguments for ``--full``; for all else the script's own defaults hold.
    """

    script: str
    sizes: str = ""
    quick: str | None = ""
    environment: str = ""
    pythons: Mapping[str, str] = field(default_factory=dict)
    without: str = ""
    minutes: float = 10.0
    threads: int = 1
    full: str = ""


@dataclass(frozen=True)
class Part:
    """One section: what it asks, how long it takes, and its scripts."""

    question: str
    minutes: float
    steps: tuple[Step, ...]


PARTS: dict[str, Part] = {
    "mnist": Part(
        "how long does the MNIST study take, from the script to the result?",
        7,
        (
            Step(
                "mnist_study.py",
                "--seeds 1",
                "--seeds 1 --trials 4 --epochs 2",
                minutes=25,
                threads=0,
            ),
        ),
    ),
    "lightgbm": Part(
        "which tuner finds the better LightGBM model in the same time?",
        5,
        (
            Step(
                "lightgbm_tuners.py",
                "--seeds 1 --moments 30 --tables diamonds hastie faults arm",
                "--seeds 1 --moments 5 --tables hastie",
                environment="tuners",
                without="--tuners hpolab LightGBMTuner 'plain Optuna'",
                minutes=25,
            ),
        ),
    ),
    "search": Part(
        "which sampler finds more in the same number of trials?",
        6,
        (
            Step(
                "search.py",
                "--half test --seeds 3 --trials 25 50 100",
                "--tables vehicle --seeds 2 --trials 5 12",
                minutes=20,
                full="--half all",
            ),
        ),
    ),
    "pruners": Part(
        "which pruner finds the better configuration in the same epochs?",
        1,
        (Step("pruners.py", "--seeds 10", "--quick"),),
    ),
    "recommenders": Part(
        "what do an epoch, an evaluation and recommendations cost?",
        5,
        (
            Step("recommender_als.py", "--repeats 7", "--repeats 1 --epochs 3"),
            Step(
                "recommender_scale.py",
                "--trainers als ease mf --rows 200000 --users 5000 --items 4000"
                " --recommend-users 2000 --repeats 2",
                "--quick --trainers als mf",
                pythons={"--rectools": "recommenders"},
            ),
            Step(
                "recommender.py",
                "--repeats 3 --epochs 2 --seeds 0 --models bpr",
                "--repeats 1 --epochs 1 --seeds 0 --models bpr",
                pythons={"--recbole": "recommenders"},
            ),
        ),
    ),
    "fused": Part(
        "what does a trial cost that is trained with others as one model?",
        4,
        (
            # Numbers instead of `auto`, which does not fuse a study as short as these.
            Step(
                "fused.py",
                "--models logistic mf --fuse 16 --rows 4000 --trials 32 --epochs 3",
                "--models logistic --fuse 4 --rows 500 --trials 8 --epochs 2 --repeats 1",
                full="--models logistic mf --fuse 16",
            ),
            Step(
                "fused.py",
                "--models mlp --fuse 8 --rows 4000 --trials 32 --epochs 3",
                "--models mlp --fuse 4 --rows 500 --trials 8 --epochs 2 --repeats 1",
                full="--models mlp --fuse 8",
            ),
            Step(
                "fused.py",
                "--models cnn --rows 1000 --trials 16 --epochs 3 --repeats 2",
                quick=None,
                full="--models cnn",
            ),
        ),
    ),
    "overhead": Part(
        "what does a trial cost beside plain Optuna, and in a long study?",
        4,
        (
            Step("overhead.py", "--repeats 5 --trials 30", "--repeats 1 --trials 10"),
            Step("import_time.py", "--repeats 11", "--repeats 2"),
            Step(
                "growth.py",
                "--storages memory --samplers random tpe --sizes 1000 100000",
                "--storages memory --samplers random --sizes 100 1000 --trials 20 --repeats 1",
            ),
        ),
    ),
    "storage": Part(
        "what do the storages cost beside Optuna's own, and do they hold up?",
        4,
        (
            Step("storage_files.py", "--repeats 5", "--repeats 1 --trials 5"),
            Step("storage_redis.py", "--trials 3000", "--repeats 1 --trials 200"),
            Step(
                "large_study.py",
                "--trials 20000 --storages sqlite journal",
                "--trials 1000 --storages journal --repeats 1",
            ),
        ),
    ),
    "scale": Part(
        "how many workers does a storage serve?",
        3,
        (
            Step(
                "scale.py",
                "--storages SQLite Redis --stored 1000 --workers 16 64 --processes 4",
                "--quick --storages Redis",
            ),
        ),
    ),
    "recovery": Part(
        "what is left of a study that is killed and started again?",
        4,
        (
            Step(
                "after_a_kill.py",
                "",
                "--trials 6 --kills 1 --repeats 1",
                environment="tuners",
                minutes=15,
            ),
        ),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, save, print; return the exit status."""
    options = parsed(arguments)
    if options.list:
        print(listing())
        return 0
    folder = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    try:
        table = read(folder / "table.json")
        if options.write_docs:
            quick = [name for name, each in table.sections.items() if each.is_quick]
            if quick:
                raise TableError(f"measured with --quick, not for the documentation: {quick}")
            write_documents(table, HERE.parent)
            return 0
    except TableError as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name in options.only:
            done = Runner(name, options, folder).section()
            # Read again: another run may have saved its sections meanwhile.
            table = read(folder / "table.json")
            table.sections[name] = done
            table.sections = {each: table.sections[each] for each in ordered(table.sections)}
            save(table, folder)
            print("\n".join(f"  {line}" for line in section_lines(done.rows)), flush=True)
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was done is in {folder}", file=sys.stderr)
        return 130
    rows = [row for row in table.rows if row.section in options.only]
    print(f"\n{summary(rows)}\nsaved: {folder / 'table.json'}, {folder / 'table.txt'}")
    failed = [row for row in rows if row.status in FAILURES]
    for row in failed:
        print(f"{row.section}, {row.question}: {row.status}: {row.note}", file=sys.stderr)
    return 1 if failed else 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small: does every section run?")
    size.add_argument("--full", action="store_true", help="each script's own sizes: hours")
    parser.add_argument(
        "--only",
        action="append",
        type=names,
        metavar="NAME",
        help="a section, or several with commas; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="print the sections and leave")
    parser.add_argument(
        "--peers",
        type=Path,
        default=default_folder(),
        metavar="FOLDER",
        help="where the peers' environments are (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where the table is (default: benchmarks/results; with --quick build/benchmarks)",
    )
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="measure nothing; write the saved table into README.md and docs/benchmarks.md",
    )
    options = parser.parse_args(arguments)
    asked = {name for group in options.only or [list(PARTS)] for name in group}
    options.only = ordered(asked)
    return options


def names(text: str) -> list[str]:
    """Return the sections that a text with commas names."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in found if name not in PARTS]
    if unknown or not found:
        raise argparse.ArgumentTypeError(
            f"no section {', '.join(map(repr, unknown)) or repr(text)}, but: {', '.join(PARTS)}"
        )
    return found


def ordered(found: Iterable[str]) -> list[str]:
    """Return names of sections in the order of the table; those of older tables come last."""
    found = list(found)
    return [*(n for n in PARTS if n in found), *(n for n in found if n not in PARTS)]


def listing() -> str:
    width = max(map(len, PARTS))
    return "\n".join(
        f"{name:{width}}  {part.minutes:3.0f} min  {part.question}\n"
        f"{'':{width}}           {', '.join(step.script for step in part.steps)}"
        for name, part in PARTS.items()
    )


def read(path: Path) -> Table:
    return Table.read(path) if path.exists() else Table()


def save(table: Table, folder: Path) -> None:
    write(folder / "table.json", table.to_json())
    write(folder / "table.txt", table.to_text())


class Runner:
    """Runs the scripts of one section."""

    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        self._name, self._options = name, options
        self._log = folder / "logs" / f"{name}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)

    def section(self) -> Section:
        """Measure; return the section."""
        part, rows, began = PARTS[self._name], [], time.monotonic()
        print(f"\n{self._name}: {part.question}", flush=True)
        with self._log.open("w") as log:
            for step in part.steps:
                if not self._options.quick or step.quick is not None:
                    rows += self._rows_of(step, log)
        seconds = time.monotonic() - began
        return section_of(rows, self._name, seconds=seconds, is_quick=self._options.quick)

    def _rows_of(self, step: Step, log: TextIO) -> list[Row]:
        python, reason = self._python(step.environment)
        sizes = shlex.split(self._sizes(step)) + (shlex.split(step.without) if reason else [])
        print(f"  {step.script} {shlex.join(sizes)}", flush=True)
        given: list[str] = []
        for option, environment in step.pythons.items():
            other, missing = self._python(environment)
            reason = reason or missing
            given += [] if missing else [option, str(other)]
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "rows.json"
            command = [str(python), str(HERE / step.script), *sizes, *given, "--json", str(found)]
            problem = run_script(command, environment_of(step, reason), step.minutes * 60, log)
            try:
                rows = read_rows(found, step.script, python, reason) if found.exists() else []
            except (LookupError, TypeError, ValueError) as error:
                rows, problem = [], problem or (CRASHED, f"its rows cannot be read: {error!r}")
        if problem and not any(row.status in FAILURES for row in rows):
            status, note = problem
            script = Path(step.script).name
            question = f"{script} as a whole"
            rows.append(Row(script, question, "hpolab or a peer", status=status, note=note))
        shown = shlex.join(["python", f"benchmarks/{step.script}", *sizes])
        return [replace(row, command=shown) for row in rows]

    def _sizes(self, step: Step) -> str:
        if self._options.quick:
            return step.quick or ""
        return step.full if self._options.full else step.sizes

    def _python(self, environment: str) -> tuple[Path, str]:
        """Return a Python, and why it is not the one of the peers' environment."""
        here = Path(sys.executable)
        if not environment:
            return here, ""
        if self._options.quick:
            return here, "--quick makes no environment for it"
        try:
            return python_of(environment, self._options.peers.absolute()), ""
        except NotInstalled as error:
            return here, one_line(str(error))


def environment_of(step: Step, reason: str) -> dict[str, str]:
    """Return the environment variables of a script; this checkout's hpolab is the one measured."""
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    of_threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    found = {name: value for name, value in os.environ.items() if name not in of_threads}
    found |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    if step.threads:
        found |= dict.fromkeys(of_threads, str(step.threads))
    return found | ({REASON: reason} if reason else {})


def run_script(
    command: list[str], environment: dict[str, str], seconds: float, log: TextIO
) -> tuple[str, str] | None:
    """Run a script to its end; return its failure and why, or None."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return TOO_LONG, f"stopped after {seconds / 60:.0f} minutes"
    finally:
        end_group(process)
    if status == 0:
        return None
    if status < 0:
        return CRASHED, f"ended by {signal.Signals(-status).name}"
    lines = Path(log.name).read_text().strip().splitlines()
    return CRASHED, one_line(lines[-1] if lines else f"exit status {status}")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a script with everything that it started."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.2 if process.poll() is not None else 2.0)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
