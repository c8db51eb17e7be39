"""Members that do not fit in memory go on in smaller stacks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.parametrize(
    ("hidden", "n_members_of_memory"),
    [
        pytest.param("[4000]", 55, id="found by measuring", marks=pytest.mark.long),
        pytest.param("[40, 4000]", 30, id="found in training"),
    ],
)
def test_more_members_than_memory_holds_go_on_in_smaller_stacks(
    hidden, n_members_of_memory, tmp_path
):
    """In a process whose address space ends, for real, where so many weights would be."""
    code = textwrap.dedent(
        """
        import resource, sys, torch
        from torch import nn
        from hpolab import SearchSpace, TorchObjective, make_study, optimizer_space, run
        torch.set_num_threads(1)
        x = torch.randn(40, 500)
        def part(a, b):
            return x[a:b].clone(), x[a:b, :1].clone()
        def build(params):
            n = params["hidden"]
            return nn.Sequential(nn.Linear(500, n), nn.ReLU(), nn.Linear(n, 1))
        space = optimizer_space("adam") | SearchSpace({"hidden": HIDDEN})
        objective = TorchObjective(
            build, train=part(0, 20), valid=part(20, 40), search_space=space,
            loss="mse", metric="mse", max_epochs=2, batch_size=10,
            checkpoint_seconds=1e9,  # on a busy machine one would be due, and take memory too
        )
        study = make_study("s", storage=sys.argv[1], objective=objective, sampler="random",
                           pruner="none", seed=0)
        run(study, objective, n_trials=1, show_progress_bar=False)
        import hpolab.torch.fused.crew  # what is imported counts, too
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        limit = used + N_MEMBERS * 4 * 2_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        run(study, objective, n_trials=17, fuse=16, show_progress_bar=False)
        print([trial.state.name for trial in study.trials].count("COMPLETE"))
        """
    )
    code = code.replace("HIDDEN", hidden).replace("N_MEMBERS", str(n_members_of_memory))
    done = subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{tmp_path}/s.db"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
    )
    assert done.stdout.strip() == "17", done.stderr
    assert "memory" in done.stderr
