#!/usr/bin/env bash
# Measures the life of commands and prints one table (Markdown) with the median
# of each figure. Run it from anywhere; it builds what it needs and leaves
# nothing behind. On an idle machine it takes about ROUNDS x (3 x FOR).
#
# Environment: FOR=10s  ROUNDS=3
#              BINARY="a wilco to measure" (default: one built from here)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for=${FOR:-10s} rounds=${ROUNDS:-3}
command -v jq >/dev/null || { echo "commands.sh: jq is not installed" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
binary=${BINARY:-$work/wilco}
[[ -n ${BINARY:-} ]] || (cd "$here" && go build -o "$binary" ./cmd/wilco)

for ((round = 1; round <= rounds; round++)); do
  echo "round $round of $rounds" >&2
  "$binary" bench commands --for "$for" --json >>"$work/results"
done

echo "$for, $rounds rounds, medians; $(nproc) CPUs, load and server on them together; $(go env GOVERSION)"
echo
jq -rs '
  def median(f): map(f) | sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
  def to(digits): pow(10; digits) as $p | . * $p | round / $p;
  "| | measured |",
  "| --- | ---: |",
  "| lifecycles a second, full load | \(median(.lifecyclesPerSecond) | to(0)) |",
  "| CPU-seconds of the server per thousand | \(median(.cpuSecondsPerThousand) | to(3)) |",
  "| CPU-seconds of clients and devices per thousand | \(median(.loadCpuSecondsPerThousand) | to(3)) |",
  "| one command at a time, request to \"executed\", p50 / p99 | \(median(.p50Ms) | to(1)) / \(median(.oneAtATimeP99Ms) | to(1)) ms |",
  "| half load, creation to executed, p50 / p99 | \(median(.halfLoadP50Ms) | to(0)) / \(median(.p99Ms) | to(0)) ms |",
  "| memory of the server, peak | \(median(.peakMemoryMiB) | to(0)) MiB |",
  "| executed twice, lost, out of order, not ended, untrue, in all rounds | \([map(.executedTwice), map(.lost), map(.outOfOrder), map(.unsettled), map(.untrue)] | map(add) | join(", ")) |"
' "$work/results"
