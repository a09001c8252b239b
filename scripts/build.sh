#!/usr/bin/env bash
# Configures and builds a preset: scripts/build.sh [release|debug|asan|tsan] [target ...]. Says what it does.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
shift || true
echo "== building (preset $preset)"
started=$SECONDS
cmake --preset "$preset" >"/tmp/flyover-configure-$$.log" 2>&1 || { cat "/tmp/flyover-configure-$$.log"; exit 1; }
rm -f "/tmp/flyover-configure-$$.log"
arguments=()
for target in "$@"; do
  arguments+=(--target "$target")
done
cmake --build --preset "$preset" "${arguments[@]}"
echo "== built in $((SECONDS - started)) s"
