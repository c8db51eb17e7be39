"""What does `import hpolab` cost beside `import optuna`?

python benchmarks/import_time.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from _compare import Record, add_json
from _table import Row, version_of


def import_seconds(package: str) -> float:
    """Return the seconds that importing a package takes in a fresh interpreter."""
    code = f"import time; t = time.perf_counter(); import {package}; print(time.perf_counter() - t)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(shown.stdout)


def main() -> None:
    """Import both in turn, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=21)
    add_json(parser)
    args = parser.parse_args()
    pairs = [(import_seconds("hpolab"), import_seconds("optuna")) for _ in range(args.repeats + 1)]
    pairs = pairs[1:]  # the first pair compiles and fills the disk cache
    ratios = [ours / rival for ours, rival in pairs]
    print(
        f"import hpolab {1000 * statistics.median(p[0] for p in pairs):.0f} ms, "
        f"import optuna {1000 * statistics.median(p[1] for p in pairs):.0f} ms, "
        f"ratio {statistics.median(ratios):.3f} [{min(ratios):.3f}..{max(ratios):.3f}] "
        f"({args.repeats} repeats, target <= 1.2)"
    )
    Record(args.json).add(
        Row.of_pairs(
            "import",
            "import hpolab, beside import optuna",
            [(1000 * ours, 1000 * rival) for ours, rival in pairs],
            peer="Optuna",
            peer_version=version_of("optuna"),
            unit="ms",
        )
    )


if __name__ == "__main__":
    main()
