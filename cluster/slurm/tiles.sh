#!/usr/bin/env bash
# Array job: catalogue, cutouts, shapes and evaluation of tiles. Run survey.sh before it.
# With as many tasks as tiles, each task makes one tile; with fewer, task k makes lines k, k + tasks, ... of the list.
#   sbatch --array=0-99%4 cluster/slurm/tiles.sh LIST      (%4: four at a time, which is enough for a public archive)
#SBATCH --job-name=deblend-tiles
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
assets=${ASSETS:-'group:des and not key:"des/simulated_sky"'}  # fields.sh has its own
list=$(realpath -- "${1:?a plain list of tiles, one a line}")
: "${SLURM_ARRAY_TASK_ID:?submit with --array=0-N}"
source "${DEBLEND_CHECKOUT:-$SLURM_SUBMIT_DIR}/cluster/slurm/job.sh"
announce
mapfile -t names < <(grep -v '^[[:space:]]*$' "$list")
failed=()
for ((line = SLURM_ARRAY_TASK_ID; line < ${#names[@]}; line += SLURM_ARRAY_TASK_COUNT)); do
    # The run of a failed tile has the reason; the other tiles go on.
    materialize "$assets" --partition "${names[line]}" || failed+=("${names[line]}")
done
if ((${#failed[@]})); then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
