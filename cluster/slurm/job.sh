# Sourced by the job scripts: runs a command, such as the materialisation of assets, as a job step.
# shellcheck shell=bash

source "${BASH_SOURCE[0]%/*}/environment.sh"

# As many threads as the job has cores: by default torch and BLAS start one for each core of the node.
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"

announce() {
    echo "job ${SLURM_JOB_ID:-} (start ${SLURM_RESTART_COUNT:-0}) on ${SLURMD_NODENAME:-$HOSTNAME}:" \
        "profile $DEBLEND_PROFILE, ${SLURM_CPUS_PER_TASK:-1} cores, CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-none}"
}

# Slurm sends the signals of pre-emption, scancel and requeue to steps but, as a rule, not to the job's shell. Therefore the
# work is a step, and the shell waits for its end. The signal of the time limit goes to the shell alone
# (--signal=B:USR1@...).
time_is_up=""
current_step=""
executioner=""
steps=0
trap ':' TERM
trap 'time_is_up=yes; stop_step' USR1

stop_step() {
    if [[ -n $current_step ]]; then
        scancel --signal=TERM "$current_step" || true
        # Kills a step that does not stop in time, so that the job can still be queued again.
        (sleep "$STOP_SECONDS" && scancel --signal=KILL "$current_step") &
        executioner=$!
    fi
}

# Run a command as a job step and return its status; a job whose time is up goes back into the queue.
step() {
    local child status=1
    if [[ -z $time_is_up ]]; then
        current_step="$SLURM_JOB_ID.$steps"
        steps=$((steps + 1))
        srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$@" &
        child=$!
        # A signal ends `wait`, not the step.
        while kill -0 "$child" 2>/dev/null; do
            wait "$child" || true
        done
        wait "$child" && status=0 || status=$?
        current_step=""
        # It would otherwise kill the step of the same number in the job's next start.
        if [[ -n $executioner ]]; then
            kill "$executioner" 2>/dev/null || true
        fi
    fi
    if [[ $status -ne 0 && -n $time_is_up && ${SLURM_RESTART_COUNT:-0} -lt $MAX_RESTARTS ]]; then
        echo "the time is up: back into the queue"
        scontrol requeue "$SLURM_JOB_ID"
    fi
    return "$status"
}

# Close the runs of dead processes, so that they do not block this one; then materialise.
# Arguments: a selection, then further arguments of `dagster asset materialize`.
materialize() {
    "$DEBLEND_PYTHON" -m deblend_assets.automation.recovery
    step "$DEBLEND_PYTHON" -m dagster asset materialize -m deblend_assets.definitions --select "$@"
}
