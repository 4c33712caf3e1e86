#!/usr/bin/env bash
# Build the documentation, pages and API, into build/docs; a warning is an error. Needs the docs extra; no network.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -d .venv ] && export PATH="$PWD/.venv/bin:$PATH"
export TF_CPP_MIN_LOG_LEVEL=3 JAX_PLATFORMS=cpu
rm -rf docs/api
python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs build/docs
echo "build/docs/index.html"
