#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command as an sbatch script's last line and puts the job back into the queue when it exits with 75 (stopped on request,
# everything saved):
#
#   exec jobs/requeue.sh COMMAND [ARGUMENTS]
#
# The script asks for `#SBATCH --signal=B:USR1@120`: Slurm then sends SIGUSR1 to it two minutes before the time limit (up to a
# minute earlier, never later), and it goes on to the command: muster, mpirun and srun all bring it to the ranks.
# MUSTER_MAX_REQUEUES (100) is how often a job may come back by itself.
set -u
interrupted=0
trap 'interrupted=1; [ -z "${command:-}" ] || kill -USR1 "$command" 2>/dev/null' USR1
"$@" &
command=$!

# A trapped signal ends the shell's wait early, which then says nothing about how the command ended: wait again.
wait "$command"
code=$?
while [ "$interrupted" -eq 1 ]; do
  interrupted=0
  wait "$command"
  code=$?
done

restarts=${SLURM_RESTART_COUNT:-0}
if [ "$code" -eq 75 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
  if [ "$restarts" -lt "${MUSTER_MAX_REQUEUES:-100}" ]; then
    echo "saved; back into the queue (restart $((restarts + 1)))"
    scontrol requeue "$SLURM_JOB_ID"
  else
    echo "saved, but this job has come back $restarts times (MUSTER_MAX_REQUEUES); submit it again to go on" >&2
  fi
fi
exit "$code"
