#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command on a Slurm cluster that lasts as long as the command.
#
#   tests/jobs/slurm_sandbox.sh FOLDER COMMAND [ARGUMENTS]
#
# munge, slurmctld and two slurmd (nodes sim0 and sim1, each with a GPU that only Slurm believes in) live in mount, process, network,
# host name and IPC namespaces of their own: nothing outside of FOLDER is written, no port or Slurm of this machine is met, and all
# processes end with the command. FOLDER must exist; afterwards it holds slurm.conf and log/. The exit code is the command's; 77 and
# a reason on stderr where this machine has no Slurm, allows no namespaces, or the user is not root.
set -euo pipefail

readonly kSkip=77
readonly kNetwork=10.20.30  # exists only between the two nodes

skip() {
  echo "skipped: $*" >&2
  exit "$kSkip"
}

# Debian keeps the daemons where a user's PATH does not look.
export PATH=$PATH:/usr/sbin:/sbin

check_machine() {
  local program refusal
  (($(id -u) == 0)) || skip "Slurm's daemons want root, also in namespaces of their own"
  for program in unshare ip munged slurmctld slurmd sbatch scontrol; do
    command -v "$program" >/dev/null ||
      skip "this machine has no $program (Debian: apt-get install --no-install-recommends slurm-wlm munge iproute2)"
  done
  refusal=$("${kUnshare[@]}" true 2>&1) || skip "this machine allows no namespaces: $refusal"
}

# No user namespace: Slurm's daemons drop supplementary groups, which is refused in one that maps a single user.
# --kill-child: who kills unshare outside ends everything inside.
readonly kUnshare=(unshare --mount --pid --net --uts --ipc --fork --mount-proc --kill-child)

write_configuration() {
  mkdir -p "$folder"/{log,state,etc} "$folder"/{tmp,spool}/sim{0,1}
  cat >"$folder/etc/hosts" <<HOSTS
127.0.0.1 localhost
$kNetwork.1 sim0
$kNetwork.2 sim1
HOSTS
  echo "NodeName=sim[0-1] Name=gpu File=/dev/null" >"$folder/gres.conf"
  cat >"$folder/slurm.conf" <<CONF
ClusterName=sandbox
SlurmctldHost=sim0($kNetwork.1)
SlurmUser=root
AuthType=auth/munge
# A requeued job waits until its old credential is void: two minutes by default.
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
TmpFS=$folder/tmp/%n
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=2,sched_min_interval=500000
JobRequeue=1
KillWait=5
MpiDefault=none
ReturnToService=2
GresTypes=gpu
# More cores than there are, to which nobody is bound: the job files must fit as they are.
SlurmdParameters=config_overrides
NodeName=sim0 NodeAddr=$kNetwork.1 CPUs=64 Gres=gpu:1 State=UNKNOWN
NodeName=sim1 NodeAddr=$kNetwork.2 CPUs=64 Gres=gpu:1 State=UNKNOWN
PartitionName=sim Nodes=ALL Default=YES State=UP
CONF
}

fail() {
  echo "the cluster does not start: $* (see $folder/log)" >&2
  tail -n 5 "$folder"/log/* >&2 || true
  exit 1
}

# Open MPI and glibc's name service pass over loopback devices, so the two nodes are joined by a pair of virtual cards.
connect_nodes() {
  hostname sim0
  ip link set lo up
  ip link add card0 type veth peer name card1 2>>"$folder/log/network.log" || skip "this kernel has no virtual network cards (veth)"
  ip address add "$kNetwork.1/24" dev card0
  ip link set card0 up
}

# The second node: a host name and a network of its own. slurmd becomes a daemon in them once the card has arrived.
start_second_node() {
  local shell
  unshare --uts --net sh -c "hostname sim1 && ip link set lo up
    until ip link show card1 >/dev/null 2>&1; do sleep 0.02; done
    ip address add $kNetwork.2/24 dev card1 && ip link set card1 up && exec slurmd -N sim1 -f $SLURM_CONF" &
  shell=$!
  until [[ $(readlink "/proc/$shell/ns/net") != $(readlink /proc/self/ns/net) ]]; do sleep 0.02; done
  ip link set card1 netns "$shell"
  wait "$shell" || fail "slurmd refused on sim1"
}

start_cluster() {
  local ready
  connect_nodes
  mount --bind "$folder/etc/hosts" /etc/hosts
  mount -t tmpfs shm /dev/shm
  export TMPDIR="$folder/tmp" SLURM_CONF="$folder/slurm.conf"
  (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
  # --force: it asks for a socket folder that everyone may enter, and here only one user is.
  munged --force --key-file "$folder/munge.key" --socket "$folder/munge.socket" --pid-file "$folder/munge.pid" \
    --seed-file "$folder/munge.seed" --log-file "$folder/log/munged.log" 2>>"$folder/log/munged.log" || fail "munged refused"
  slurmctld -f "$SLURM_CONF" || fail "slurmctld refused"
  slurmd -N sim0 -f "$SLURM_CONF" || fail "slurmd refused on sim0"
  start_second_node
  local end=$((SECONDS + 30))
  while ((SECONDS < end)); do
    ready=$(sinfo -h -N -t idle -o %N 2>>"$folder/log/sinfo.log" | wc -l) || ready=0
    [[ $ready -lt 2 ]] || return 0
    sleep 0.2
  done
  fail "only $ready of 2 nodes became ready within 30 s"
}

if [[ ${1:-} != --inside ]]; then
  [[ $# -ge 2 && -d $1 ]] || { echo "usage: tests/jobs/slurm_sandbox.sh FOLDER COMMAND [ARGUMENTS]" >&2; exit 2; }
  check_machine
  folder=$(realpath "$1")
  shift
  exec "${kUnshare[@]}" "$(realpath "${BASH_SOURCE[0]}")" --inside "$folder" "$@"
fi
folder=$2
shift 2
write_configuration
start_cluster
"$@"
