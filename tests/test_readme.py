"""The README: short, and its blocks run as pasted. tests/test_docs.py checks links and commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def test_it_is_a_screen_and_a_half():
    assert len(README.splitlines()) <= 150


def test_its_first_lines_say_what_it_is():
    above_the_program = README.split("```python", 1)[0].lower()
    for word in ("hyperparameter", "optuna", "pytorch", "lightgbm", "scikit-learn", "pip install"):
        assert word in above_the_program


def test_its_programs_run_as_pasted(tmp_path):
    """All blocks in their order in one file, as a reader pastes them; then what they leave."""
    (tmp_path / "pasted.py").write_text("\n\n".join(blocks("python")))
    done = subprocess.run(
        [sys.executable, "pasted.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").stat().st_size > 100_000
    # What it shows of the output: figures may differ from machine to machine, words may not.
    (shown,) = blocks("text")
    for line in shown.splitlines():
        words = re.sub(r"\d+", "0", line).split("...")[0].strip()
        assert words in re.sub(r"\d+", "0", done.stdout), line
