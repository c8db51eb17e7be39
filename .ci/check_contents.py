"""Check that wheel and sdist hold what they should, and nothing else.

Usage: python .ci/check_contents.py dist/*.whl dist/*.tar.gz
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

# Without these the package is broken in ways that no import shows.
NEEDED = {
    "hpolab/__init__.pyi",
    "hpolab/py.typed",
    "hpolab/report/page.js",
    "hpolab/report/template.html",
}
BESIDE_IN_SDIST = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md",
                   "pyproject.toml"}  # fmt: skip


def of_the_repository() -> set[str]:
    """Return the package's files as git knows them, those that are new included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "hpolab"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line for line in shown.splitlines() if Path(line).exists()}


def of_a_wheel(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as wheel:
        return {name for name in wheel.namelist() if ".dist-info/" not in name}


def of_a_sdist(path: Path) -> set[str]:
    with tarfile.open(path) as sdist:
        names = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    # Hatchling puts it in always.
    return names - {".gitignore"}


def differences(found: set[str], expected: set[str]) -> list[str]:
    return [f"missing: {name}" for name in sorted(expected - found)] + [
        f"too much: {name}" for name in sorted(found - expected)
    ]


def main(paths: list[Path]) -> int:
    package = of_the_repository()
    wrong = differences(package & NEEDED, NEEDED)
    wheels = [path for path in paths if path.suffix == ".whl"]
    sdists = [path for path in paths if path.name.endswith(".tar.gz")]
    if len(wheels) != 1 or len(sdists) != 1:
        wrong.append(f"one wheel and one sdist are needed, got {[path.name for path in paths]}")
    for path in wheels:
        wrong += [f"{path.name}: {line}" for line in differences(of_a_wheel(path), package)]
    for path in sdists:
        expected = package | BESIDE_IN_SDIST
        wrong += [f"{path.name}: {line}" for line in differences(of_a_sdist(path), expected)]
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    sys.stdout.write(f"{len(package)} files of the package, {len(wrong)} wrong\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
