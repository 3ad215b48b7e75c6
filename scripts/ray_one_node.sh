#!/usr/bin/env bash
# A real Ray cluster of one node on this machine, and a small sweep through it: each cell is a task.
# It lets in who has its token, keeps its files in a temporary folder and is gone afterwards.
# Arguments go to the sweep: scripts/ray_one_node.sh model=mean,grin trainer.max_epochs=5
set -euo pipefail
source "$(dirname "$0")/setup_ray.sh"

start() {
    ray start --head --block --port="$port" --num-cpus=2 \
        --include-dashboard=false --disable-usage-stats --temp-dir="$folder" &> "$folder/ray.log" &
    for _ in {1..20}; do
        if ray status --address="$address" 2>&1 | tee "$folder/status.log" | grep -q Active; then return; fi
        if ! kill -0 $! 2> /dev/null; then break; fi
        sleep 1
    done
    echo "error: Ray does not answer at $address:" >&2
    tail -n 15 "$folder/ray.log" "$folder/status.log" >&2
    exit 1
}

stop() {
    trap - EXIT
    kill $(jobs -p) 2> /dev/null && wait
    rm -rf "$folder"
}

folder=$(mktemp -d)
trap stop EXIT
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
port=$(python -c 'import socket; print(socket.create_server(("", 0)).getsockname()[1])')
address=127.0.0.1:$port
export RAY_AUTH_TOKEN
start
cat "$folder/status.log"

status=0
python -m benchmarks.run -m name=one_node dataset=simulated model=mean,linear,brits trainer=smoke \
    tracking=none results_dir="$folder/results" hydra/launcher=ray_cluster \
    hydra.launcher.ray.init.address="$address" "$@" || status=$?

echo "the rows:"
python -c "import pandas; rows = pandas.read_csv('$folder/results/one_node/runs.csv')
print(rows[['model', 'dataset', 'status', 'step_mae', 'train_seconds', 'threads']].to_string(index=False))"
exit "$status"
