#!/usr/bin/env bash
# Everything that must hold before a change is merged. Stops at the first stage
# that fails, and names it. Needs no terminal. See scripts/setup.sh for what it
# installs; FUZZ_SECONDS and FUZZ_BUDGET are explained in scripts/fuzz.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

DONE=()
STAGE=set-up
started=$SECONDS

summary() {
	local code=$?
	echo
	echo "== summary"
	for line in ${DONE[@]+"${DONE[@]}"}; do echo "   ok    $line"; done
	for line in ${SKIPPED[@]+"${SKIPPED[@]}"}; do echo "   SKIP  $line"; done
	if [ "$code" = 0 ]; then
		echo "   all stages passed in $((SECONDS - started)) s"
	else
		echo "   FAIL  stage \"$STAGE\" after $((SECONDS - started)) s (exit code $code)"
	fi
	exit "$code"
}
trap summary EXIT

# stage NAME COMMAND...: runs one stage.
stage() {
	STAGE=$1
	shift
	local from=$SECONDS
	echo
	echo "== $STAGE"
	"$@"
	DONE+=("$STAGE ($((SECONDS - from)) s)")
}

formatted() {
	local files
	files=$(gofmt -l .)
	[ -z "$files" ] && return
	echo "gofmt -w wants to change:"
	echo "$files"
	return 1
}

# packages lists those that match or, with -v, do not match a pattern.
packages() { go list ./... | grep "$@" || true; }

# The stores on disk, the engine's histories and the scenarios come at a small size,
# which is still a minute with the race detector; scripts/soak.sh has the large one.
small='/store/\(pebble\|sqlite\)$\|/internal/\(engine\|scenario\)$'

# Vet has a stage of its own, and of some sixty test programs nobody debugs one. Many
# tests wait for a disk or a clock: more packages than there are cores run at a time.
quick=(-p 4 -vet=off -ldflags=-w)

unit_tests() {
	local list
	mapfile -t list < <(packages -v "/e2e\\(/\\|$\\)\\|$small")
	go test $RACE "${quick[@]}" -timeout 10m "${list[@]}"
	mapfile -t list < <(packages "$small")
	go test $RACE "${quick[@]}" -short -timeout 10m "${list[@]}"
	# Too large with the race detector, which leaves it out.
	go test "${quick[@]}" -run '^TestTheDirectoryShrinks$' -timeout 10m ./broker/store/pebble
}

# With fewer rounds of kill -9; scripts/soak.sh has the others. These tests wait more
# than they work: more of them than there are cores run at a time.
end_to_end() {
	local list
	mapfile -t list < <(packages '/e2e\(/\|$\)')
	go test "${quick[@]}" -count=1 -short -parallel 6 -timeout 10m "${list[@]}"
}

need_race
need_mosquitto
go version
stage "format" formatted
stage "build" go build ./...
stage "vet" go vet ./...
stage "staticcheck" go tool staticcheck ./...
stage "tests${RACE:+ with the race detector}" unit_tests
stage "fuzzing" scripts/fuzz.sh
if [ -n "$(packages '/e2e\(/\|$\)')" ]; then
	stage "end to end" end_to_end
else
	SKIPPED+=("end to end: there is no package e2e")
fi
