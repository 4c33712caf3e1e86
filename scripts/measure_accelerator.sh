#!/usr/bin/env bash
# Measure all that docs/performance.md tells of an accelerator, in under nine minutes: scripts/measure_accelerator.sh [OUT]
# OUT/table.md has the tables. Takes the Python that is there, with jax, flax and optax; PyTorch is compared where it is.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python tools/measure_accelerator.py "${1:-runs/accelerator}" "${@:2}"
