"""Environments with the peers, made by `run.py` under one folder and used again while they fit.

What is installed stands in `benchmarks/peers/*.txt`, with a reason beside each package.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers"
DONE = "done.txt"


@dataclass(frozen=True)
class Peers:
    """What one environment holds.

    Attributes:
        files: Files of requirements, each installed by a call of pip.
        on_top: Whether packages of the environment that runs `run.py` are found, too. Then both
            sides have the same versions of what they share, and little has to be installed.
    """

    files: tuple[str, ...]
    on_top: bool


ENVIRONMENTS = {
    "tuners": Peers(("tuners.txt",), on_top=True),
    "recommenders": Peers(("recommenders.txt", "recommenders-no-deps.txt"), on_top=False),
}


class NotInstalled(Exception):
    """An environment that could not be made; says why."""


def default_folder() -> Path:
    """Return the platform's folder for what can be made again."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "hpolab-benchmarks"


def python_of(name: str, folder: Path, *, log: Path | None = None) -> Path:
    """Return the Python of an environment, which is made unless it is there and fits.

    Raises:
        NotInstalled: If it cannot be made, as without a network.
    """
    peers, root = ENVIRONMENTS[name], folder / name
    python = root / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = fingerprint(peers)
    done = root / DONE
    if done.exists() and done.read_text() == wanted and python.exists():
        return python
    print(f"  making {root}, once; this may take minutes", flush=True)
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        venv.create(root, with_pip=True, symlinks=os.name != "nt")
        if peers.on_top:
            share(root)
        for file in peers.files:
            install(python, REQUIREMENTS / file, log or root / "pip.log")
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotInstalled(f"{name}: {why(error)}") from error
    done.write_text(wanted)
    return python


def fingerprint(peers: Peers) -> str:
    """Return what an environment depends on: requirements, Python, and what it lies on."""
    parts = [sys.version, sys.prefix if peers.on_top else ""]
    parts += [(REQUIREMENTS / file).read_text() for file in peers.files]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def share(root: Path) -> None:
    """Let an environment find packages of this one after its own.

    A line with `addsitedir` and no plain path: it reads the .pth files there, too, by which
    packages that are being worked on are found.
    """
    paths = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    own = Path(sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)}))
    lines = [f"import site; site.addsitedir({path!r})\n" for path in sorted(paths)]
    (own / "_shared.pth").write_text("".join(lines))


def install(python: Path, requirements: Path, log: Path) -> None:
    command = [python, "-m", "pip", "install", "--prefer-binary", "-r", requirements]
    if "no-deps" in requirements.name:
        command.append("--no-deps")
    with log.open("a") as output:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE,
            text=True, check=True,
        )  # fmt: skip


def why(error: Exception) -> str:
    """Return what went wrong: of pip, its last error."""
    lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")]
    return " ".join((errors or lines or ["failed"])[-1].split())
