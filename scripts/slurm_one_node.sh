#!/usr/bin/env bash
# A real SLURM of one node, and a small sweep through it: each cell is a job.
# SLURM's daemons run as plain processes with all their files in a temporary folder; they touch no
# other SLURM and are gone afterwards. Needs root on Debian (tried: 12, SLURM 22.05). Arguments go
# to the sweep: scripts/slurm_one_node.sh model=mean,grin trainer.max_epochs=5
set -euo pipefail
if [ "$(id -u)" != 0 ]; then
    echo "error: SLURM's daemons have to be started by root (user: $(id -un))" >&2
    exit 1
fi
EXTRAS=slurm
source "$(dirname "$0")/setup.sh"

install_slurm() {
    if command -v slurmctld slurmd munged sbatch > /dev/null; then return; fi
    if ! command -v apt-get > /dev/null; then
        echo "error: no SLURM here, and no apt-get to install it: install slurmctld, slurmd and munge" >&2
        exit 1
    fi
    echo "installing slurm-wlm and munge"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurm-wlm munge > /dev/null
}

write_configuration() {
    local node ports
    node=$(uname -n | cut -d. -f1)
    ports=($(python -c 'import socket
two = [socket.create_server(("", 0)) for _ in range(2)]
print(*(each.getsockname()[1] for each in two))'))
    mkdir "$folder/state" "$folder/spool"
    cat > "$folder/slurm.conf" <<CONF
ClusterName=one_node
SlurmUser=root
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
# neither cgroups nor systemd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
# several jobs on the node, as many as there are cores and memory for
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
$(slurmd -C | head -n 1) NodeAddr=127.0.0.1
PartitionName=main Nodes=ALL Default=YES
CONF
}

start() {
    dd if=/dev/urandom of="$folder/munge.key" bs=64 count=1 status=none
    chmod 400 "$folder/munge.key"
    munged --foreground --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --seed-file="$folder/munged.seed" &> "$folder/munged.log" &
    slurmctld -D &> /dev/null &
    slurmd -D &> /dev/null &
    for _ in {1..60}; do
        if [ "$(sinfo --noheader --format=%T 2>&1)" = idle ]; then return; fi
        sleep 0.5
    done
    echo "error: the node is not idle after 30 seconds: $(sinfo 2>&1)" >&2
    tail -n 15 "$folder"/*.log >&2
    exit 1
}

until_no_job_is_left() {
    for _ in {1..50}; do
        if [ -z "$(squeue --noheader 2> /dev/null)" ]; then break; fi
        sleep 0.2
    done
}

stop() {
    trap - EXIT INT TERM
    scancel --me 2> /dev/null && until_no_job_is_left
    kill $(jobs -p) 2> /dev/null && wait
    rm -rf "$folder"
}

install_slurm
folder=$(mktemp -d)
trap stop EXIT
chmod 755 "$folder"    # munge wants its socket where everyone can reach it
export SLURM_CONF=$folder/slurm.conf
write_configuration
start
sinfo --Node --long

status=0
python -m benchmarks.run -m name=one_node dataset=simulated model=mean,linear,brits trainer=smoke \
    tracking=none results_dir="$folder/results" hydra/launcher=slurm hydra.launcher.cpus_per_task=1 \
    hydra.launcher.mem_gb=2 hydra.launcher.timeout_min=10 "$@" || status=$?

until_no_job_is_left
echo "the jobs:"
squeue --array --states=all --format='%.8i %.14j %.10T %.6M %.4C %N'
echo "the rows:"
python -c "import pandas; rows = pandas.read_csv('$folder/results/one_node/runs.csv')
print(rows[['model', 'dataset', 'status', 'step_mae', 'train_seconds', 'threads']].to_string(index=False))"
exit "$status"
