#!/usr/bin/env bash
# Lint, types, documentation and all tests, in the environment of quickstart.sh with the test tools added.
#
#   scripts/test.sh [--fast] [--with-torch] [--with-beam] [arguments of pytest]
#
# --fast is for the loop of a change: lint, types and the tests that take moments.
# --with-torch also installs PyTorch, for the tests that compare with it.
# --with-beam also runs the tests that need Apache Beam, after all others, in an environment of its own: it
# takes older versions of what others need.
set -euo pipefail
cd "$(dirname "$0")/.."
fast=false beam=false requirements=(requirements/train.txt requirements/dev.txt)
while [ $# -gt 0 ]; do
  case $1 in
    --fast) fast=true ;;
    --with-beam) beam=true ;;
    --with-torch) requirements+=(requirements/torch.txt) ;;
    *) break ;;
  esac
  shift
done
source scripts/environment.sh "${requirements[@]}"

echo "== ruff"
ruff check .
ruff format --check .
echo "== mypy"
mypy
echo "== the arrows between the rooms"
lint-imports
if $fast; then
  echo "== pytest, without the slow tests"
  exec python -m pytest -m "not slow" "$@"
fi
echo "== documentation"
scripts/build_docs.sh
echo "== pytest"
python -m pytest "$@"
if $beam; then
  source scripts/environment.sh requirements/beam.txt
  echo "== pytest, with Apache Beam"
  python -m pytest tests/commands/test_catalogue.py tests/data/test_beam_songs.py
fi
