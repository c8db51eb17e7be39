"""Fifty workers of one study as SLURM jobs, started from Python by submitit.

HPOLAB_STORAGE=postgresql://user:password@host/db python submitit_jobs.py
"""

import sys

import submitit


def main(cluster=None, n_workers=50, n_trials=2000, minutes=240, folder="submitit"):
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    executor.update_parameters(
        name="hpolab",
        timeout_min=minutes,
        cpus_per_task=2,
        mem_gb=4,
        # The worker stops by itself a minute before the end; submitit's own signal, which ends its
        # processes, is to come later.
        slurm_signal_delay_s=30,
    )
    command = [sys.executable, "-m", "hpolab", "worker", "objective:objective"]
    command += ["--study", "digits", "--n-trials", str(n_trials), "--create"]
    command += ["--max-seconds", str(60 * minutes)]
    worker = submitit.helpers.CommandFunction(command)
    with executor.batch():  # one array
        jobs = [executor.submit(worker) for _ in range(n_workers)]
    return jobs


if __name__ == "__main__":
    for job in main():
        print(job.job_id)
