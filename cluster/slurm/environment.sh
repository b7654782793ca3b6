# Settings of the jobs, sourced by the job scripts and by submit_lineage.sh. Paths must be on a file system that all nodes
# share. Every variable can be set before sbatch, which passes it on.
# shellcheck shell=bash

: "${DEBLEND_CHECKOUT:=${SLURM_SUBMIT_DIR:-$PWD}}"             # this repository
: "${DEBLEND_PYTHON:=$DEBLEND_CHECKOUT/.venv/bin/python}"      # where it is installed
: "${DEBLEND_PROFILE:=${PROFILE:-demo}}"                       # a shipped profile, or the path of a .toml file
: "${DAGSTER_HOME:=$DEBLEND_CHECKOUT}"                         # the folder of dagster.yaml
: "${DEBLEND_STORAGE:=$DEBLEND_CHECKOUT/storage}"              # a folder, or the URL of an object store
: "${STOP_SECONDS:=120}"       # time that a step has to keep its state when the job runs out of time; then it is killed
: "${MAX_RESTARTS:=50}"        # how often a job that runs out of time goes back into the queue

if [[ $DEBLEND_PROFILE == *.toml ]]; then
    DEBLEND_PROFILE=$(realpath -- "$DEBLEND_PROFILE")
fi
if [[ $DEBLEND_STORAGE != *://* ]]; then
    DEBLEND_STORAGE=$(realpath --canonicalize-missing -- "$DEBLEND_STORAGE")
fi
export DEBLEND_CHECKOUT DEBLEND_PYTHON DEBLEND_PROFILE DAGSTER_HOME DEBLEND_STORAGE STOP_SECONDS MAX_RESTARTS

# The paths of SQLite in the project's own dagster.yaml are relative to the folder of the process.
cd "$DAGSTER_HOME"
