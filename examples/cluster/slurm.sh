#!/bin/bash
# Fifty workers of one study, as a SLURM array:
#
#   export HPOLAB_STORAGE=postgresql://user:password@host/db
#   sbatch slurm.sh
#
# Each stops by itself in time before the job's end. Submit it again and the study goes on.

#SBATCH --job-name=hpolab
#SBATCH --array=1-50
#SBATCH --time=04:00:00
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
# Preempted jobs start again. USR1, 90 seconds before the end, goes to this script alone (B:), which
# is the worker by then: it lets the epoch end, saves a checkpoint and requeues its trial.
#SBATCH --requeue
#SBATCH --signal=B:USR1@90

set -euo pipefail
: "${HPOLAB_STORAGE:?names the storage that all workers reach}"

# Checkpoints lie in this folder: one that all nodes see.
cd "${SLURM_SUBMIT_DIR:-.}"

# `exec`, so that the signal reaches the worker: bash would keep it until its command has ended.
exec hpolab worker objective:objective --study digits --n-trials 2000 --create
