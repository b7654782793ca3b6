#!/usr/bin/env bash
# Before the array of tiles: registers them all, and draws the simulated survey where the profile asks for one.
# Once, not in every task: two processes that change the registry at a time are refused.
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
