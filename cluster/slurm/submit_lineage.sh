#!/usr/bin/env bash
# Submits everything, each job after those that it depends on: the catalogue; shards, normalisation, training and evaluation
# of the LSST model; training fields, training and calibration of the network for every sky; then the tiles. Finished work is
# kept: after a failure, submit again.
#   DAGSTER_HOME=/shared/dagster DEBLEND_STORAGE=/shared/storage PROFILE=report PARTITION=cpu GPU_PARTITION=gpu \
#       cluster/slurm/submit_lineage.sh
set -euo pipefail

: "${PARTS:=lsst sky tiles}"       # the LSST model; the network for every sky; tiles, with the latter or the shipped one
: "${ACCOUNT:=}"                   # as sbatch --account takes it; empty: your default
: "${PARTITION:=}"                 # for the jobs without a GPU; empty: the cluster's default
: "${GPU_PARTITION:=$PARTITION}"   # for the trainings
: "${CORES:=8}"                    # a task
: "${MEMORY_PER_CORE:=2G}"
: "${SHARD_TASKS:=16}"             # array tasks that share the shards of the simulation
: "${SHARD_TIME:=04:00:00}"        # limits of a job or of a task, hours:minutes:seconds
: "${TRAINING_TIME:=12:00:00}"     # a training that needs longer goes back into the queue and goes on
: "${ASSET_TIME:=02:00:00}"        # catalogue, normalisation, fields, evaluation
: "${TILE_TIME:=02:00:00}"
: "${TRAINING_GRES=gpu:1}"         # empty: train on the CPU
: "${TILE_LIST:=}"                 # plain list, one a line; empty: the tiles of the profile's simulated survey
: "${TILES_AT_ONCE:=4}"            # tasks that query a public archive at a time

for part in $PARTS; do
    case $part in
        lsst | sky | tiles) ;;
        *) echo "$0: PARTS holds lsst, sky and tiles, not $part" >&2; exit 2 ;;
    esac
done
: "${DEBLEND_CHECKOUT:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}"
if [[ -n $TILE_LIST ]]; then
    TILE_LIST=$(realpath -- "$TILE_LIST")
fi
source "$DEBLEND_CHECKOUT/cluster/slurm/environment.sh"
: "${LOGS:=$DAGSTER_HOME/slurm}"
mkdir -p "$LOGS"

# Prints the job's number. Arguments: the jobs it comes after (with colons, or none), a limit, then what sbatch takes.
submit() {
    local after=$1 limit=$2
    shift 2
    sbatch --parsable --kill-on-invalid-dep=yes ${after:+"--dependency=afterok:$after"} ${ACCOUNT:+"--account=$ACCOUNT"} \
        --time="$limit" --cpus-per-task="$CORES" --mem-per-cpu="$MEMORY_PER_CORE" "$@" | cut -d';' -f1
}

# The same for jobs without a GPU. Arguments: after, limit, a name, then what sbatch takes.
submit_cpu() {
    local after=$1 limit=$2 name=$3
    shift 3
    submit "$after" "$limit" ${PARTITION:+"--partition=$PARTITION"} --job-name="deblend-$name" \
        --output="$LOGS/$name-%j.log" "$@"
}

# A training, which goes back into the queue at its time limit. Arguments: after, a name, the assets.
submit_training() {
    submit "$1" "$TRAINING_TIME" ${GPU_PARTITION:+"--partition=$GPU_PARTITION"} ${TRAINING_GRES:+"--gres=$TRAINING_GRES"} \
        --job-name="deblend-$2" --output="$LOGS/$2-%j.log" "$jobs/training.sh" "$3"
}

jobs="$DEBLEND_CHECKOUT/cluster/slurm"
# First and alone: it also creates the tables of a new Dagster instance, which several jobs must not do at the same time.
catalog=$(submit_cpu "" "$ASSET_TIME" catalog "$jobs/assets.sh" simulation/galaxy_catalog)
echo "catalog $catalog"

lsst() {
    local job
    job=$(submit_cpu "$catalog" "$SHARD_TIME" shards --array="0-$((SHARD_TASKS - 1))" \
        --output="$LOGS/shards-%A_%a.log" "$jobs/shards.sh")
    echo "shards $job"
    job=$(submit_cpu "$job" "$ASSET_TIME" normalization "$jobs/assets.sh" normalization/normalization_statistics)
    echo "normalization $job"
    job=$(submit_training "$job" training \
        'group:training or key:"shapes/shape_network" or key:"shapes/neighbour_head" or key:"shapes/shape_posterior"')
    echo "training $job"
    job=$(submit_cpu "$job" "$ASSET_TIME" evaluation "$jobs/assets.sh" \
        'group:evaluation or key:"shapes/fisher_floor" or key:"shapes/shape_evaluation"')
    echo "evaluation $job"
}

sky() {
    local job
    job=$(submit_cpu "$catalog" "$SHARD_TIME" fields "$jobs/assets.sh" sky_shapes/training_fields)
    echo "fields $job"
    model=$(submit_training "$job" sky-training 'key:"sky_shapes/sky_network" or key:"sky_shapes/sky_model"')
    echo "sky-training $model"
}

tiles() {
    local survey number tasks job
    if [[ -z $TILE_LIST ]]; then
        TILE_LIST="$LOGS/tiles.txt"
        "$DEBLEND_PYTHON" -m deblend_assets.partitions tiles | tr ' ' '\n' > "$TILE_LIST"
    fi
    number=$(grep -c '[^[:space:]]' "$TILE_LIST" || true)
    if ((number == 0)); then
        echo "no tiles: set TILE_LIST" >&2
        return
    fi
    survey=$(submit_cpu "$catalog" "$ASSET_TIME" survey "$jobs/survey.sh" "$TILE_LIST")
    echo "survey $survey"
    # A cluster takes arrays of 1,001 tasks, unless its MaxArraySize says otherwise.
    tasks=$((number < 1000 ? number : 1000))
    job=$(submit_cpu "$survey${model:+:$model}" "$TILE_TIME" tiles --array="0-$((tasks - 1))%$TILES_AT_ONCE" \
        --output="$LOGS/tiles-%A_%a.log" "$jobs/tiles.sh" "$TILE_LIST")
    echo "tiles $job"
}

model=""   # job of the network for every sky, which tiles wait for
for part in lsst sky tiles; do
    if [[ " $PARTS " == *" $part "* ]]; then
        "$part"
    fi
done
