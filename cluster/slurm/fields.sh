#!/usr/bin/env bash
# Array job: images, detections, catalogue and quality page of fields, which `deblend_assets fields add` has registered.
# With as many tasks as fields, each task makes one field; with fewer, task k makes lines k, k + tasks, ... of the list.
#   sbatch --array=0-99 --cpus-per-task=8 cluster/slurm/fields.sh LIST
#SBATCH --job-name=deblend-fields
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
: "${1:?a plain list of registered fields, one a line}"
ASSETS='key:"fields/field_*"'
source "${DEBLEND_CHECKOUT:-$SLURM_SUBMIT_DIR}/cluster/slurm/tiles.sh" "$1"
