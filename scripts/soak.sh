#!/usr/bin/env bash
# Looks for what the short runs of make test do not find: property tests with
# many more histories, simulations with many more seeds, a broker that is killed
# many more times, then fuzzing for longer.
#
#   SOAK_CHECKS   histories of each property (default 20000)
#   SOAK_SEEDS    seeds of the simulator (default 5000)
#   SOAK_KILLS    kills of the broker at each durability, and of the server while
#                 commands are taken back, and while they wait for places (default 500)
#   FUZZ_SECONDS  seconds a fuzz target (default 300)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

need_race
mapfile -t properties < <(grep -rl --include='*_test.go' '"pgregory.net/rapid"' . | xargs -r -n1 dirname | sort -u)
for dir in ${properties[@]+"${properties[@]}"}; do
	go test $RACE -count=1 -timeout 0 "$dir" -rapid.checks="${SOAK_CHECKS:-20000}"
done
go test $RACE -count=1 -timeout 0 ./broker/store/pebble ./internal/store/sqlite # make test has them at a small size
WILCO_SOAK=1 go test -count=1 -timeout 0 ./broker/store/pebble -run 'TestKill|TestPowerCut|TestFaults|TestWhatACrashCosts|TestDamage|TestMemory|TestAsMemory' -v |
	grep -v '^=== RUN\|^    --- PASS'
WILCO_SIM_SEEDS="${SOAK_SEEDS:-5000}" go test -count=1 -timeout 0 ./internal/scenario -run TestSeeds -v | grep -v '^=== RUN\|^    --- PASS'
go test -count=1 -timeout 0 ./e2e -run 'Kill' -v
WILCO_KILL_ROUNDS="${SOAK_KILLS:-500}" go test -count=1 -timeout 0 ./e2e -run 'TestBrokerKillNine|TestRollbackAfterKill|TestInterlocksAfterKill|TestGatewayKillNine|TestGatewayMirrorsOnce' -v
FUZZ_SECONDS=${FUZZ_SECONDS:-300} FUZZ_BUDGET=1000000 scripts/fuzz.sh
