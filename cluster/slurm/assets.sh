#!/usr/bin/env bash
# Materialises assets without partitions on one node: the catalogue, the normalisation, an evaluation.
#   sbatch cluster/slurm/assets.sh 'SELECTION'
#SBATCH --job-name=deblend-assets
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
selection=${1:?the assets, as dagster asset materialize --select takes them}
source "${DEBLEND_CHECKOUT:-$SLURM_SUBMIT_DIR}/cluster/slurm/job.sh"
announce
materialize "$selection"
