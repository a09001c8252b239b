#!/usr/bin/env bash
# Runs the quickstart and holds it to its promise: every task under 10 % for the raw model and over 80 % once trained, two
# dialogues. The 5 minutes are reported; twice as many fail: CI's machines differ by a factor of two, and are noisy.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/quickstart.sh | tee build/quickstart.log
[ "$(grep -c '^user: ' build/quickstart.log)" = 2 ] && [ "$(grep -c '^assistant: ' build/quickstart.log)" = 2 ] ||
  { echo "fails: two dialogues are promised"; exit 1; }
seconds=$(sed -n 's/^== trained and scored in \([0-9]*\) s.*/\1/p' build/quickstart.log)
echo "== the quickstart took $seconds s; 300 are promised on two undisturbed cores, more than 600 fail"
[ "$seconds" -le 600 ]
awk '
  /^task .*raw .*trained/ { table = 1; next }
  table && NF == 5 && $3 == "%" && $5 == "%" { ++tasks; if ($2 >= 10 || $4 <= 80) { bad = 1; print "fails: " $0 } next }
  { table = 0 }
  END { if (tasks < 4) { print "the table shows " tasks + 0 " tasks, expected 4 or more"; bad = 1 } exit bad }
' build/quickstart.log
