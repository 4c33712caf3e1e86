#!/usr/bin/env bash
# Run the same training command on every worker of a TPU pod slice, from a machine with gcloud.
#
#   scripts/tpu_pod.sh setup NAME ZONE             copy this repository to all workers, make environments
#   scripts/tpu_pod.sh NAME ZONE FLAGS...          start (or go on with) training: flags of vocalsep_jax.main
#
# --workdir must be on a file system that all workers share; songs may be there or on each worker.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

[ $# -ge 2 ] || usage
if [ "$1" = setup ]; then
  [ $# -eq 3 ] || usage
  git archive --format=tar.gz --output=/tmp/vocalsep_jax.tar.gz HEAD
  gcloud compute tpus tpu-vm scp /tmp/vocalsep_jax.tar.gz "$2:" --zone="$3" --worker=all
  exec gcloud compute tpus tpu-vm ssh "$2" --zone="$3" --worker=all --command='
    set -e
    mkdir -p vocalsep_jax && tar -xzf vocalsep_jax.tar.gz -C vocalsep_jax && cd vocalsep_jax
    source scripts/environment.sh requirements/train.txt
    jax=$(.venv/bin/python -c "import jax; print(jax.__version__)")
    .venv/bin/python -m pip install --quiet "jax[tpu]==$jax"'
fi

name=$1 zone=$2
shift 2
printf -v flags ' %q' "$@"
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
  --command="cd vocalsep_jax && .venv/bin/python -m vocalsep_jax.main --multihost$flags"
