"""A study on a Ray cluster. In this folder:

ray job submit --working-dir . -- python ray_job.py postgresql://user:password@host/db
"""

import sys

from objective import objective

from hpolab import RayExecutor, make_study, run


def main(storage, n_trials=2000, n_workers=50, address="auto"):
    study = make_study("digits", objective=objective, storage=storage)
    # Workers outlive this driver. Submitted again, it finds them instead of starting others.
    executor = RayExecutor(n_workers=n_workers, cpus_per_worker=1, address=address)
    run(study, objective, n_trials=n_trials, executor=executor)
    print(f"best accuracy {study.best_value:.4f} with {study.best_params}")


if __name__ == "__main__":
    main(sys.argv[1])
