#!/usr/bin/env bash
# Array job: every task renders its slice of the shards of the LSST (main) or DES model. Finished shards are kept. The
# catalogue must exist.
#   sbatch --array=0-15 --cpus-per-task=8 cluster/slurm/shards.sh [main|des]
#SBATCH --job-name=deblend-shards
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
leg=${1:-main}
case $leg in
    main) selection='key:"simulated/*"' ;;
    des) selection='key:"des_model/truth" or key:"des_model/isolated" or key:"des_model/noisy" or key:"des_model/blended"' ;;
    *) echo "$0: give main or des, not $leg" >&2; exit 2 ;;
esac
: "${SLURM_ARRAY_TASK_ID:?submit with --array=0-N}"
source "${DEBLEND_CHECKOUT:-$SLURM_SUBMIT_DIR}/cluster/slurm/job.sh"
announce
range=$("$DEBLEND_PYTHON" "$DEBLEND_CHECKOUT/cluster/slurm/shard_slice.py" \
    "$leg" "$SLURM_ARRAY_TASK_ID" "$SLURM_ARRAY_TASK_COUNT")
if [[ -z $range ]]; then
    echo "more tasks than shards: nothing to do"
    exit
fi
echo "shards $range"
materialize "$selection" --partition-range "$range"
