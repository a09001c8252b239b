#!/usr/bin/env bash
# Builds and runs the test suite. Tests that need data which is not in the repository skip and say so.
# usage: scripts/test.sh [preset] [ctest arguments ...]      for example scripts/test.sh asan -L fast
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
shift || true
scripts/install_packages.sh
scripts/build.sh "$preset"
echo "== testing (preset $preset)"
if [ ! -e "${FLYOVER_SHARED_DATA:-../shared/data}" ]; then
  echo "   ${FLYOVER_SHARED_DATA:-../shared/data} is missing: tests on real models, tokenizers and datasets skip"
fi
ctest --test-dir "build/$preset" --output-on-failure -j "$(nproc)" "$@"
