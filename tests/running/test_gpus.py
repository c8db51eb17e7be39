"""Which GPU a worker takes, by fakes at the border: the environment and a program on PATH."""

from __future__ import annotations

import pytest

from hpolab.errors import InvalidArgument
from hpolab.running.gpus import check_gpus, gpu_of_local_rank, visible_gpus

TWO = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bb)\n"
SPLIT = (
    "GPU 0: NVIDIA A100 (UUID: GPU-aa)\n"
    "  MIG 3g.20gb     Device  0: (UUID: MIG-cc)\n"
    "  MIG 3g.20gb     Device  1: (UUID: MIG-dd)\n"
    "GPU 1: NVIDIA A100 (UUID: GPU-bb)\n"
)


@pytest.fixture
def smi(tmp_path):
    """Return an environment whose ``nvidia-smi -L`` prints a text and ends with a code."""

    def environ(text, code=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {code}\n")
        program.chmod(0o755)
        return {"PATH": f"{tmp_path}:/usr/bin:/bin"}

    return environ


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        ("0", ["0"]),
        ("3,1", ["3", "1"]),
        ("GPU-8f,MIG-9a", ["GPU-8f", "MIG-9a"]),
        ("0,-1,2", ["0"]),  # as CUDA reads it
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_variable_of_cuda_is_read_as_cuda_does(value, gpus, smi):
    assert visible_gpus(smi(TWO) | {"CUDA_VISIBLE_DEVICES": value}) == gpus


@pytest.mark.parametrize(("text", "gpus"), [(TWO, ["0", "1"]), (SPLIT, ["MIG-cc", "MIG-dd", "1"])])
def test_gpus_are_those_that_nvidia_smi_lists(text, gpus, smi):
    assert visible_gpus(smi(text)) == gpus


def test_driver_that_does_not_answer_is_no_gpu(smi):
    assert visible_gpus(smi("Failed to initialize NVML\n", code=9)) == []


def test_pytorch_is_asked_last(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus({"PATH": "/nowhere"}) == ["0", "1"]


@pytest.mark.parametrize(
    ("environ", "gpu"),
    [
        ({"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2"}, "1"),
        ({"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "2(x4)"}, "0"),
        ({"SLURM_LOCALID": "3", "SLURM_STEP_TASKS_PER_NODE": "4"}, "1"),  # two share one
        ({"LOCAL_RANK": "1"}, "1"),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, "1"),
        ({"SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "5"}, None),  # its own already
        ({"SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "5,7"}, "7"),
        ({"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1"}, None),  # alone: all are its own
        ({"SLURM_LOCALID": "0", "CUDA_VISIBLE_DEVICES": "5,7"}, None),
        ({}, None),
    ],
)
def test_local_rank_takes_one_of_the_visible_gpus_where_processes_share_them(environ, gpu, smi):
    assert gpu_of_local_rank(smi(TWO) | environ) == gpu


def test_rank_without_any_gpu_takes_none(smi):
    assert gpu_of_local_rank(smi("") | {"LOCAL_RANK": "1"}) is None


@pytest.mark.parametrize(
    ("environ", "found"),
    [({"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES=''"), ({"PATH": "/no"}, "no nvidia-smi")],
)
def test_machine_without_a_gpu_is_refused_with_what_was_found(environ, found):
    with pytest.raises(InvalidArgument, match=f"`--per-gpu` needs .*{found}"):
        check_gpus([], environ)
