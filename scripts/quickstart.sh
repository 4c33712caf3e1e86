#!/usr/bin/env bash
# Separate a built-in song with the model that comes with the package, which takes seconds; then train a narrow network on
# other built-in songs, and separate the same one with that. Minutes on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh requirements/train.txt

run=runs/quickstart
songs=built-in-songs
export TF_CPP_MIN_LOG_LEVEL=3

echo "== writing a built-in song"
python tools/write_builtin_songs.py "$songs" --split test --count 1 --seconds 30

echo "== the models that come with the package"
if python -m vocalsep_jax.cli models; then
  echo "== separating the song with the default one"
  python -m vocalsep_jax.separate "$songs"/test/*/mixture.wav -o separated
fi

echo "== training $run"
python -m vocalsep_jax.main --config configs/quickstart.py --workdir "$run"

echo "== separating the song, which was not trained on, with it"
python -m vocalsep_jax.separate "$songs"/test/*/mixture.wav --checkpoint "$run" -o separated

echo "== scoring it"
python -m vocalsep_jax.evaluate --checkpoint "$run" --data "$songs"

cat <<END

Higher is better; silence scores 0 dB. Listen, look, go on:
  song, and its true voice   $songs/test/
  separated voice, and rest  separated/quickstart/
  figures                    $run/figures/curves.png, $run/figures/prediction.png
  checkpoint                 $run/checkpoints/
Your own song:  .venv/bin/python -m vocalsep_jax.separate SONG
(with --checkpoint $run by the network just trained. Generated voices teach it little of real ones: docs/training.md says
how to train on real songs.)
END
