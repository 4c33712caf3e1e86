#!/usr/bin/env bash
# Train the model that ships again, export it, score it, and write its card.
# Usage: scripts/reproduce_model.sh SONGS INSTRUMENTALS OUT
# SONGS holds songs (docs/training.md); INSTRUMENTALS audio files without a voice. The licences of all of them are in
# tools/song_licences.json.
# Stopped and started again, it goes on where it stopped. MODEL names the model. LEAVE_ONE_OUT=1 also trains the
# recipe once for each song without it, and scores it there: as many times as long as there are songs.
# SMOKE=1 trains configs/smoke.py in its place: a check of this script in a minute.
set -euo pipefail
usage="usage: scripts/reproduce_model.sh SONGS INSTRUMENTALS OUT"
songs=$(cd "${1:?$usage}" && pwd)
instrumentals=$(cd "${2:?$usage}" && pwd)
mkdir -p "${3:?$usage}"
out=$(cd "$3" && pwd)
cd "$(dirname "$0")/.."
source scripts/environment.sh requirements/train.txt

model=${MODEL:-vocals}
config=configs/ship.py
[ -z "${SMOKE:-}" ] || config=configs/smoke.py
export TF_CPP_MIN_LOG_LEVEL=3

echo "== the songs"
[ -d "$out/songs" ] || python tools/gather_songs.py "$songs" "$instrumentals" "$out/songs"

echo "== training"
python -m vocalsep_jax.main --config $config --workdir "$out/run" --config.data.root="$out/songs" \
  --config.data.instrumentals="$out/songs/instrumentals/train" --config.valid.best_by=last

echo "== exporting"
[ -f "$out/$model/model.json" ] || python -m vocalsep_jax.export "$out/run" "$out/$model" --weights-only --dtype float16

echo "== scoring"
python -m vocalsep_jax.evaluate --checkpoint "$out/$model" --data "$out/songs" --report "$out/scores"
python tools/awkward_inputs.py "$out/$model" --songs "$out/songs" --split train \
  --instrumentals "$out/songs/instrumentals/test" --json "$out/awkward.json"
left_out=()
if [ -n "${LEAVE_ONE_OUT:-}" ]; then
  echo "== the recipe without each song in turn"
  python tools/leave_one_out.py $config --songs "$songs" --out "$out/folds" -- \
    --config.data.instrumentals="$out/songs/instrumentals/train"
  left_out=(--leave-one-out "$out/folds/$(basename $config .py)/scores.json")
fi

echo "== the card"
command="scripts/reproduce_model.sh SONGS INSTRUMENTALS OUT"
python tools/model_card.py "$out/$model" --run "$out/run" --scores "$out/scores/scores.json" \
  --awkward "$out/awkward.json" "${left_out[@]}" --command "${LEAVE_ONE_OUT:+LEAVE_ONE_OUT=1 }$command"

cat <<END

The model is $out/$model. To have it come with the package:
  mkdir -p vocalsep_jax/shipped && cp -r "$out/$model" vocalsep_jax/shipped/ && echo $model > vocalsep_jax/shipped/default.txt
END
