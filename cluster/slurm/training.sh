#!/usr/bin/env bash
# GPU job: the stages of a training, one after the other. After pre-emption, requeue or the time limit it resumes.
#   sbatch --gres=gpu:1 --cpus-per-task=8 cluster/slurm/training.sh ['SELECTION']
#SBATCH --job-name=deblend-training
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@240
set -euo pipefail
selection=${1:-group:training}
source "${DEBLEND_CHECKOUT:-$SLURM_SUBMIT_DIR}/cluster/slurm/job.sh"
announce
materialize "$selection"
