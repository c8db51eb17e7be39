"""The benchmark of a GPU runs small where there is none, so that its ten minutes are not lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


def test_the_stand_in_measures_every_part_and_saves_it(tmp_path):
    path = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "gpu.py", "--stand-in", "--json", path],
        env=os.environ | {"PYTHONPATH": str(BENCHMARKS.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert found["about"]["is_stand_in"]
    assert [row["name"] for row in found["rows"] if "error" in row] == []
    steps = [row for row in found["rows"] if row["name"].startswith("step: ")]
    assert len(steps) == 8
    for row in steps:
        assert row["samples_per_second"] > 0
        assert row["differs_from_first"] < (1e-2 if "bfloat16" in row["name"] else 1e-4)
    assert [row["name"] for row in found["rows"] if row["name"].startswith("training: ")] == [
        "training: one at a time, eager",
        "training: one at a time, graphs",
        "training: 4 as one",
    ]
    assert len(found["targets"]) == 5


@pytest.mark.parametrize(("kind", "millions"), [("eager", 2.6), ("compiled", 5.5), ("bf16", 8.5)])
def test_the_bound_of_an_h100_is_the_one_that_is_documented(gpu, kind, millions):
    assert 3.35e12 / gpu.bytes_a_sample(kind) == pytest.approx(millions * 1e6, rel=0.02)


def test_every_way_of_a_convolution_is_torchs_own_one(gpu):
    import torch

    torch.manual_seed(0)
    models = [gpu.build_cnn({}) for _ in range(3)]
    parts = [torch.stack(each) for each in zip(*(m.parameters() for m in models), strict=True)]
    images = torch.rand(3, 5, 1, 28, 28)
    expected = torch.stack([m[:7](part) for m, part in zip(models, images, strict=True)])
    for way, features in gpu.WAYS.items():
        torch.testing.assert_close(features(images, parts), expected, msg=way)
