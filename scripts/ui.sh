#!/usr/bin/env bash
# The MLflow UI on the suite's store; arguments go to `mlflow ui`, e.g. --port 5001.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

store=${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}
if [ "$store" = sqlite:///mlflow.db ] && [ ! -e mlflow.db ]; then
    echo "error: no runs yet: mlflow.db is made by the first run, e.g. scripts/demo.sh" >&2
    exit 1
fi
export MLFLOW_DISABLE_TELEMETRY=${MLFLOW_DISABLE_TELEMETRY:-true}
exec mlflow ui --backend-store-uri "$store" "$@"
