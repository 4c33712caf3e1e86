#!/usr/bin/env bash
# Train a narrow network on the built-in songs and separate one it has not heard. Minutes on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh requirements/train.txt

run=runs/quickstart
songs=built-in-songs
export TF_CPP_MIN_LOG_LEVEL=3

echo "== training $run"
python -m vocalsep_jax.main --config configs/quickstart.py --workdir "$run"

echo "== writing a built-in song that was not trained on"
python tools/write_builtin_songs.py "$songs" --split test --count 1 --seconds 30

echo "== separating it"
python -m vocalsep_jax.separate "$songs"/test/*/mixture.wav --checkpoint "$run" -o separated

echo "== scoring it"
python -m vocalsep_jax.evaluate --checkpoint "$run" --data "$songs"

cat <<END

Higher is better; silence scores 0 dB. Listen, look, go on:
  song, and its true voice   $songs/test/
  separated voice, and rest  separated/quickstart/
  figures                    $run/figures/curves.png, $run/figures/prediction.png
  checkpoint                 $run/checkpoints/
Your own song:  .venv/bin/python -m vocalsep_jax.separate SONG --checkpoint $run
(A network of generated voices does little for real ones: docs/training.md says how to train on real songs.)
END
