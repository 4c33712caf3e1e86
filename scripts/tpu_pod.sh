#!/usr/bin/env bash
# Train on all workers of a TPU pod slice, from a machine with gcloud.
#
#   scripts/tpu_pod.sh setup NAME ZONE              copy this repository to all workers, make environments
#   scripts/tpu_pod.sh train NAME ZONE FLAGS...     start (or go on with) training: flags of vocalsep_jax.main
#   scripts/tpu_pod.sh keep NAME ZONE TYPE FLAGS... the same on a spot slice of that type (v5litepod-64, ...): it is
#                                                   made, and made again whenever it was taken away, until all
#                                                   steps are done
#   scripts/tpu_pod.sh stop NAME ZONE               have it save and stop, on all workers at the same step
#   scripts/tpu_pod.sh logs NAME ZONE [WORKER]      what a worker has said so far (0, the first, tells most)
#
# --dry-run before the command prints what would be run. --workdir must be on a file system that all
# workers share; songs may be there or on each worker.
# RUNTIME (tpu-ubuntu2204-base) is the image of new slices, RETRY (60) the seconds between tries.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  sed -n '2,15s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

run() {
  if [ "$dry" = yes ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

ssh() { # WORKER COMMAND
  run gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker="$1" --command="$2"
}

setup() {
  run git archive --format=tar.gz --output=/tmp/vocalsep_jax.tar.gz HEAD
  run gcloud compute tpus tpu-vm scp /tmp/vocalsep_jax.tar.gz "$name:" --zone="$zone" --worker=all
  ssh all '
    set -e
    mkdir -p vocalsep_jax && tar -xzf vocalsep_jax.tar.gz -C vocalsep_jax && cd vocalsep_jax
    source scripts/environment.sh requirements/train.txt
    jax=$(.venv/bin/python -c "import jax; print(jax.__version__)")
    .venv/bin/python -m pip install --quiet "jax[tpu]==$jax"'
}

train() { # FLAGS...
  local flags
  printf -v flags ' %q' "$@"
  ssh all "cd vocalsep_jax && set -o pipefail && \
.venv/bin/python -m vocalsep_jax.main --multihost$flags 2>&1 | tee -a worker.log"
}

state() {
  gcloud compute tpus tpu-vm describe "$name" --zone="$zone" --format='value(state)' 2>/dev/null || echo MISSING
}

create() { # TYPE
  run gcloud compute tpus tpu-vm create "$name" --zone="$zone" --accelerator-type="$1" --spot \
    --version="${RUNTIME:-tpu-ubuntu2204-base}"
}

keep() { # TYPE FLAGS...
  local type=$1 failures=0
  shift
  if [ "$dry" = yes ]; then
    create "$type"
    setup
    train "$@"
    return
  fi
  while :; do
    case $(state) in
    READY) ;;
    MISSING)
      if ! { create "$type" && setup; }; then
        sleep "${RETRY:-60}" # no capacity, most likely
        continue
      fi
      ;;
    *) # taken away, or on its way
      gcloud compute tpus tpu-vm delete "$name" --zone="$zone" --quiet || sleep "${RETRY:-60}"
      continue
      ;;
    esac
    if train "$@"; then
      return 0
    fi
    # A slice that is there and yet fails three times has another reason, which starting again will not mend.
    if [ "$(state)" = READY ]; then failures=$((failures + 1)); else failures=0; fi
    if [ "$failures" -ge 3 ]; then
      echo "error: training failed $failures times on a slice that was there; see: $0 logs $name $zone" >&2
      return 1
    fi
    sleep "${RETRY:-60}"
  done
}

dry=no
if [ "${1:-}" = --dry-run ]; then
  dry=yes
  shift
fi
[ $# -ge 3 ] || usage
command=$1 name=$2 zone=$3
shift 3
case $command in
setup) [ $# -eq 0 ] || usage; setup ;;
train) [ $# -ge 1 ] || usage; train "$@" ;;
keep) [ $# -ge 2 ] || usage; keep "$@" ;;
stop) [ $# -eq 0 ] || usage; ssh 0 "pkill -TERM -f -- '-m vocalsep_jax.main'" ;;
logs) [ $# -le 1 ] || usage; ssh "${1:-0}" "cat vocalsep_jax/worker.log" ;;
*) usage ;;
esac
