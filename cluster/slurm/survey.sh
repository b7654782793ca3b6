#!/usr/bin/env bash
# Before the array of tiles: registers all of them, and renders the simulated survey where the profile has one.
# Once, not in every task: two processes cannot change the registry at the same time.
#   sbatch cluster/slurm/survey.sh LIST        (a plain list of tiles, one a line)
#SBATCH --job-name=deblend-survey
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
list=$(realpath -- "${1:?a plain list of tiles, one a line}")
source "${DEBLEND_CHECKOUT:-$SLURM_SUBMIT_DIR}/cluster/slurm/job.sh"
announce
mapfile -t names < <(grep -v '^[[:space:]]*$' "$list")
"$DEBLEND_PYTHON" -m deblend_assets.cli tiles add "${names[@]}"
simulated=$("$DEBLEND_PYTHON" -m deblend_assets.partitions tiles)
if [[ -n $simulated ]]; then
    materialize des/simulated_sky
fi
