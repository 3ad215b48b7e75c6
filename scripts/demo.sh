#!/usr/bin/env bash
# A small but real sweep on the simulated network that ships with the suite, and its report.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

# two cells at a time, one core each
python -m benchmarks.run -m experiment=demo hydra/launcher=joblib hydra.launcher.n_jobs=2 "$@"
python -m benchmarks.report experiment=demo
