#!/usr/bin/env bash
# Writes the golden files, scenarios and generated pages anew: it runs the tests
# of every package that has a flag for that. Read the difference before you
# commit it: a golden file that changed is a behaviour that changed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

for flag in update rewrite; do
	grep -rlE --include='*_test.go' "flag\.Bool\(\"$flag\"" . | xargs -r -n1 dirname | sort -u | while read -r dir; do
		echo "$dir"
		go test -count=1 -short "$dir" "-$flag" >/dev/null || {
			# Some files are compared in the same run in which others are written.
			go test -count=1 -short "$dir" "-$flag"
		}
	done
done

if [ -f internal/cli/docs.go ]; then
	echo docs/reference
	go run ./cmd/wilco docs docs/reference
fi
