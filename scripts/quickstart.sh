#!/usr/bin/env bash
# The first look: builds Flyover, makes a small raw model, fine-tunes it and shows what that changed.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_packages.sh
scripts/build.sh release flyover
run=runs/quickstart
if [ -e "$run" ]; then
  run=runs/quickstart-$(date +%Y%m%d-%H%M%S)
fi
echo "== flyover run recipes/quickstart.yaml --set run_directory=$run"
started=$SECONDS
build/release/bin/flyover run recipes/quickstart.yaml --set run_directory="$run"
echo "== trained and scored in $((SECONDS - started)) s. Curves, scores and samples: $run/report.html"
echo "   The model is in $run/model. Talk to it:"
echo "   build/release/bin/flyover chat --model $run/model"
