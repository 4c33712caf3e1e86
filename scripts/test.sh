#!/usr/bin/env bash
# Lint, types and all tests, in the environment of quickstart.sh with the test tools added.
# --with-torch also installs PyTorch, for the tests that compare with it.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --with-torch ]; then
  shift
  source scripts/environment.sh requirements/train.txt requirements/dev.txt requirements/torch.txt
else
  source scripts/environment.sh requirements/train.txt requirements/dev.txt
fi

echo "== ruff"
ruff check .
ruff format --check .
echo "== mypy"
mypy
echo "== pytest"
python -m pytest "$@"
