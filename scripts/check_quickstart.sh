#!/usr/bin/env bash
# Runs the quickstart and holds it to its promise: every task under 10 % for the raw model and over 80 % once trained.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/quickstart.sh | tee build/quickstart.log
awk '
  /^task .*raw .*trained/ { table = 1; next }
  table && NF == 5 && $3 == "%" && $5 == "%" { ++tasks; if ($2 >= 10 || $4 <= 80) { bad = 1; print "fails: " $0 } next }
  { table = 0 }
  END { if (tasks < 4) { print "the table shows " tasks + 0 " tasks, expected 4 or more"; bad = 1 } exit bad }
' build/quickstart.log
