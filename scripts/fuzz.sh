#!/usr/bin/env bash
# Runs every fuzz target of the module for a while, two at a time.
#
#   FUZZ_SECONDS  seconds a target (default 10)
#   FUZZ_BUDGET   seconds in all, without those of compiling (default 30); where all targets do not fit at 2 seconds
#                 each, those that do are taken in turn, another part with each commit, and those never that
#                 need a database: it takes minutes to compile for the fuzzer
#   FUZZ_TARGETS  only those whose name contains this
#
# A crash leaves its input in testdata/fuzz beside the test: commit it with the fix.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

wanted=${FUZZ_SECONDS:-10}
budget=${FUZZ_BUDGET:-30}
together=2
start_up=3 # seconds that a target takes beside its fuzzing

# "FuzzX package" a line, without compiling anything.
list_targets() {
	grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . | sed 's|^\(.*\)/[^/]*:func \(Fuzz.*\)($|\2 \1|' | sort -k 2 -k 1 |
		{ grep -F "${FUZZ_TARGETS:-}" || true; }
}

# without_databases leaves out of the list on stdin those of packages that need one.
without_databases() {
	awk 'NR == FNR { heavy[$1]; next } !($2 in heavy)' <(
		grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u |
			xargs go list -test -f '{{.Dir}} {{join .Deps " "}}' |
			sed -n "s#^$PWD\([^ ]*\) .*\(modernc.org/sqlite\|cockroachdb/pebble\).*#.\1#p"
	) -
}
targets=$(list_targets)
if [ -z "$targets" ]; then
	echo "there are no fuzz targets"
	exit
fi
count=$(wc -l <<<"$targets")
seconds=$((budget * together / count - start_up))
if [ "$seconds" -ge "$wanted" ]; then
	seconds=$wanted
elif [ "$seconds" -ge 2 ]; then
	echo "$count targets do not fit into $budget s at $wanted s each: each gets $seconds s"
else
	seconds=2
	targets=$(without_databases <<<"$targets")
	count=$(wc -l <<<"$targets")
	fit=$((budget * together / (seconds + start_up)))
	from=$((0x$(git rev-parse --short=6 HEAD 2>/dev/null || echo 0) % count))
	targets=$(printf '%s\n%s\n' "$targets" "$targets" | sed -n "$((from + 1)),$((from + fit))p")
	echo "of $count targets $fit fit into $budget s: those from the $((from + 1))th on"
	count=$fit
fi
echo "$count targets, $seconds s each, $together at a time"

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# fuzz TARGET DIR: the answer is the exit code; what was said is in the log.
fuzz() {
	local log
	log=$(mktemp "$logs/XXXXXX")
	local run=(go test -run '^$' -fuzz "^$1\$" -fuzztime "${seconds}s" -fuzzminimizetime 5s -parallel 1 "$2")
	if "${run[@]}" >"$log" 2>&1; then
		echo "ok    $1 ($2): $(grep -oE 'execs: [0-9]+' "$log" | tail -1 || true)"
		return
	fi
	# Before Go 1.27 the fuzzer sometimes takes the end of its own time for a
	# failure of the target (golang/go issue 75804). Where it shows no failing
	# input it is asked once more.
	if grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log" && "${run[@]}" >"$log" 2>&1; then
		echo "ok    $1 ($2), at the second go"
		return
	fi
	echo "FAIL  $1 ($2)"
	cat "$log"
	return 1
}

failed=0
while read -r target dir; do
	fuzz "$target" "$dir" </dev/null &
	if [ "$(jobs -pr | wc -l)" -ge "$together" ]; then
		wait -n || failed=1
	fi
done <<<"$targets"
while [ -n "$(jobs -p)" ]; do
	wait -n || failed=1
done
exit "$failed"
