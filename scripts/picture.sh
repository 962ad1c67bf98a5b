#!/usr/bin/env bash
# Draws docs/demo.svg: the last table and the report of a real `wilco demo`, as a
# terminal shows them. Wants script(1) of util-linux.
#
#   scripts/picture.sh [SECONDS [SEED]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
make -s build
log=$(mktemp)
trap 'rm -f "$log"' EXIT
script -qec "stty cols 130 rows 40; ./bin/wilco demo --for ${1:-20}s --seed ${2:-7}" "$log" >/dev/null

# A frame begins where the cursor is moved up; everything before the last one goes.
tr -d '\r' <"$log" | awk '
	/^Script (started|done)/ { next }
	{ if (i = index($0, "\033[J")) { n = 0; $0 = substr($0, i + 3) } line[++n] = $0 }
	END {
		height = n * 17 + 36
		printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"980\" height=\"%d\" viewBox=\"0 0 980 %d\" role=\"img\" aria-label=\"wilco demo in a terminal\">\n", height, height
		print "<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#10151c\"/>"
		print "<g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,monospace\" font-size=\"13\" fill=\"#d5dde6\" xml:space=\"preserve\">"
		for (k = 1; k <= n; k++) {
			t = line[k]
			gsub(/&/, "\\&amp;", t); gsub(/</, "\\&lt;", t); gsub(/>/, "\\&gt;", t)
			colour = ""
			if (t ~ /^wilco demo|^Every command ended/) colour = " fill=\"#7ee2a8\""
			else if (t ~ / failed  /) colour = " fill=\"#f0b37e\""
			if (t != "") printf "<text x=\"18\" y=\"%d\"%s>%s</text>\n", k * 17 + 14, colour, t
		}
		print "</g>\n</svg>"
	}' >docs/demo.svg
