#!/usr/bin/env bash
# Lint, types and tests, which two processes share; arguments go to pytest.
set -euo pipefail
EXTRAS=dev,pypots,slurm
source "$(dirname "$0")/setup.sh"

ruff check .
ruff format --check .
mypy
python -m pytest -n 2 --dist loadfile "$@"
