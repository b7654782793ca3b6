#!/usr/bin/env bash
# Array job: every task renders its slice of the shards of the simulation. Finished shards are kept. The catalogue must exist.
#   sbatch --array=0-15 --cpus-per-task=8 cluster/slurm/shards.sh
#SBATCH --job-name=deblend-shards
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
: "${SLURM_ARRAY_TASK_ID:?submit with --array=0-N}"
source "${DEBLEND_CHECKOUT:-$SLURM_SUBMIT_DIR}/cluster/slurm/job.sh"
announce
range=$("$DEBLEND_PYTHON" "$DEBLEND_CHECKOUT/cluster/slurm/shard_slice.py" \
    "$SLURM_ARRAY_TASK_ID" "$SLURM_ARRAY_TASK_COUNT")
if [[ -z $range ]]; then
    echo "more tasks than shards: nothing to do"
    exit
fi
echo "shards $range"
materialize 'key:"simulated/*"' --partition-range "$range"
