#!/usr/bin/env bash
# Measure all that docs/performance.md tells of an accelerator, in under nine minutes: scripts/measure_accelerator.sh [OUT]
# OUT/table.md has the tables. Takes the `python` that is there, with the core's packages; PyTorch is compared where it is.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python tools/measure_accelerator.py "$@"
