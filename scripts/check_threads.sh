#!/usr/bin/env bash
# Runs the tests of what works on several threads under ThreadSanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/build.sh tsan base_tests devices_conformance_tests rollout_tests trainer_tests
echo "== testing (preset tsan)"
build/tsan/bin/base_tests --gtest_brief=1
build/tsan/bin/devices_conformance_tests --gtest_brief=1 --gtest_filter='*CpuDevice*AnyNumberOfThreads*:*DelayedDevice*'
build/tsan/bin/rollout_tests --gtest_brief=1 --gtest_filter='BitParityAcrossThreads*'
build/tsan/bin/trainer_tests --gtest_brief=1
