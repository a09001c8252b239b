#!/usr/bin/env bash
# clang-format on every C++ file of the repository.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "== clang-format"
git ls-files 'src/*.h' 'src/*.cpp' 'tests/*.h' 'tests/*.cpp' 'bench/*.h' 'bench/*.cpp' |
  xargs clang-format --dry-run --Werror
