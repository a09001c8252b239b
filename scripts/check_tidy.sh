#!/usr/bin/env bash
# clang-tidy on every translation unit of the product. Needs a configured build: scripts/check_tidy.sh [preset]
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
echo "== clang-tidy"
mapfile -t files < <(git ls-files 'src/*.cpp')
printf '%s\n' "${files[@]}" |
  xargs -P "$(nproc)" -n 4 clang-tidy -p "build/$preset" --quiet --extra-arg=-Wno-unknown-warning-option 2> >(grep -v 'warnings generated\|^$' >&2 || true)
