#!/usr/bin/env bash
# The transfer experiment of docs/transfer.md: does a trained encoder help, and in which domain?
# Usage: scripts/transfer.sh FOLDER [flags of the compared runs]
# FOLDER holds songs, as docs/training.md describes them. Where it has no valid/ songs, name some, or each seed will
# choose its own:  --config.data.valid_names="('Artist - Title',)"
# Under an hour on two CPU cores. Stopped and started again, it goes on where it stopped.
set -euo pipefail
songs=$(cd "${1:?usage: scripts/transfer.sh FOLDER [flags]}" && pwd)
shift
cd "$(dirname "$0")/.."
source scripts/environment.sh requirements/train.txt requirements/torch.txt

out=runs/transfer
export TF_CPP_MIN_LOG_LEVEL=3

if [ ! -d $out/encoder ]; then
  echo "== training the network whose encoder is transferred, on the built-in songs"
  python -m vocalsep_jax.main --config configs/transfer/pretrain.py --workdir $out/pretrain
  echo "== to PyTorch, and from there to an encoder, as the published one would come"
  rm -f $out/pretrained.pth
  python tools/convert_torch_encoder.py --to-torch $out/pretrain $out/pretrained.pth
  python tools/convert_torch_encoder.py $out/pretrained.pth $out/encoder
fi

echo "== the experiment"
python tools/run_experiment.py configs/transfer/{scratch,transferred_raw,scratch_log,transferred_log,frozen}.py \
  --out $out/experiment --seeds 0 1 2 --test "$songs" -- --config.data.root="$songs" "$@"
