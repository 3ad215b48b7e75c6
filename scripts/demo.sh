#!/usr/bin/env bash
# A small but real sweep on the simulated network that ships with the suite, and its report.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

python -m benchmarks.run -m experiment=demo "$@"
python -m benchmarks.report experiment=demo
