#!/usr/bin/env bash
# Lint, types, documentation and all tests, in the environment of quickstart.sh with the test tools added.
#
#   scripts/test.sh [--fast] [--with-torch] [arguments of pytest]
#
# --fast is for the loop of a change: lint, types and the tests that take moments.
# --with-torch also installs PyTorch, for the tests that compare with it.
set -euo pipefail
cd "$(dirname "$0")/.."
fast=false requirements=(requirements/train.txt requirements/dev.txt)
while [ $# -gt 0 ]; do
  case $1 in
    --fast) fast=true ;;
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
