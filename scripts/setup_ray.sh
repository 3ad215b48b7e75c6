#!/usr/bin/env bash
# Makes .venv-ray, in which hydra/launcher=ray_cluster works: hydra-ray-launcher takes no cloudpickle
# from 3 on, so constraints-ray.txt replaces some of the pins of constraints.txt and adds Ray's.
set -euo pipefail
VENV=.venv-ray EXTRAS=ray OTHER_PINS=constraints-ray.txt
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
