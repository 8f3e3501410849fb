#!/usr/bin/env bash
#SBATCH --job-name=flowreasoner
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --exclusive
#SBATCH --output=%x-%j.out
#SBATCH --signal=B:TERM@120
# A run on Ray's own cluster of this allocation, from the repository on a file system that all nodes mount:
#
#   sbatch --nodes=3 launch/cluster/slurm.sh experiment=flowreasoner_7b trainer.run_dir=/shared/runs/7b
#
# Arguments are settings of launch.train. Submitted again with the same trainer.run_dir, the run goes on.
#   SANDBOX_NODES=1   so many of the nodes (the last ones) take untrusted code and nothing else; 0: every node takes some
#   PYTHON, RAY_PORT, RAY_TEMP   another interpreter than .venv/bin/python, port, folder for Ray's sockets (short, on a local disk)
set -euo pipefail

cd "${FLOWREASONER_DIR:-${SLURM_SUBMIT_DIR:-$PWD}}"
python=${PYTHON:-$PWD/.venv/bin/python}
port=${RAY_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
temp=${RAY_TEMP:-/tmp/fr-$SLURM_JOB_ID}
sandbox_nodes=${SANDBOX_NODES:-0}
sandbox_room=64

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
if ((sandbox_nodes >= ${#nodes[@]})); then
    echo "SANDBOX_NODES=$sandbox_nodes leaves none of the ${#nodes[@]} nodes for engines and learner: allocate more." >&2
    exit 2
fi
head_ip=$(hostname -I | awk '{print $1}') # the batch script runs on the first node

# Whoever reaches the port of a Ray without a token may run code as this user. srun hands the environment on.
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$("$python" -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE RAY_AUTH_TOKEN

started=()
train=
end_all() {
    local code=$?
    trap - EXIT TERM INT
    if ((${#started[@]})); then kill "${started[@]}" 2>/dev/null || true; fi
    wait || true
    exit "$code"
}
trap end_all EXIT
# Asks the run to end in a way that it can go on later.
interrupt() { if [[ -n $train ]]; then kill -TERM "$train" 2>/dev/null || true; fi; }
trap interrupt TERM INT

node() { # node NAME OPTION...: a Ray node there, in the background
    local name=$1
    shift
    srun --nodes=1 --ntasks=1 --nodelist="$name" --overlap "$python" -m ray.scripts.scripts start --block "$@" &
    started+=($!)
}

answers() { "$python" -m ray.scripts.scripts status --address="$head_ip:$port" >/dev/null 2>&1; }

for index in "${!nodes[@]}"; do
    if ((index == 0)); then
        options=(--head "--node-ip-address=$head_ip" "--port=$port" "--temp-dir=$temp" --include-dashboard=false)
    else
        options=("--address=$head_ip:$port")
    fi
    if ((index >= ${#nodes[@]} - sandbox_nodes)); then
        options+=(--num-gpus=0 "--resources={\"sandbox\": $sandbox_room}")
    elif ((sandbox_nodes == 0)); then
        options+=("--resources={\"sandbox\": $sandbox_room}")
    fi
    node "${nodes[index]}" "${options[@]}"
    if ((index == 0)); then
        for _ in $(seq 60); do
            if answers; then break; fi
            sleep 2
        done
        if ! answers; then
            echo "Ray does not answer at $head_ip:$port after two minutes: see the output above." >&2
            exit 1
        fi
    fi
done

"$python" -m launch.train cluster=multi_node "cluster.address=$head_ip:$port" "$@" &
train=$!
code=0
wait "$train" || code=$?
if kill -0 "$train" 2>/dev/null; then # a signal ended the wait, not the run
    code=0
    wait "$train" || code=$?
fi
exit "$code"
