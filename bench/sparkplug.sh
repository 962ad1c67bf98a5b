#!/usr/bin/env bash
# Measures a Sparkplug host over our broker, in order and with 1 % of the
# messages late, and prints one table (Markdown) with the median of each figure.
# Run it from anywhere; it builds what it needs and leaves nothing behind. It
# takes about ROUNDS x 2 x (FOR + 3 s).
#
# Environment: FOR=10s  ROUNDS=3  NODES=1000  METRICS=10
#              BINARY="a wilco to measure" (default: one built from here)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for=${FOR:-10s} rounds=${ROUNDS:-3} nodes=${NODES:-1000} metrics=${METRICS:-10}
command -v jq >/dev/null || { echo "sparkplug.sh: jq is not installed" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
binary=${BINARY:-$work/wilco}
[[ -n ${BINARY:-} ]] || (cd "$here" && go build -o "$binary" ./cmd/wilco)

for ((round = 1; round <= rounds; round++)); do
  for late in 0% 1%; do
    echo "round $round of $rounds, $late reordered" >&2
    "$binary" bench sparkplug --for "$for" --nodes "$nodes" --metrics "$metrics" --reordered "$late" --json >>"$work/results"
  done
done

echo "$nodes edge nodes, $metrics metrics a message, $for, $rounds rounds, medians; $(nproc) CPUs, everything on them; $(go env GOVERSION)"
echo
jq -rs '
  def median(f): map(f) | sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
  def to(digits): pow(10; digits) as $p | . * $p | round / $p;
  [map(select(.reordered == 0)), map(select(.reordered > 0))] as $runs |
  def row(name; f): "| " + name + " | " + ($runs | map(f | tostring) | join(" | ")) + " |";
  "| | in order | 1 % reordered |",
  "| --- | ---: | ---: |",
  row("messages a second"; median(.messagesPerSecond) | to(0)),
  row("metrics a second"; median(.metricsPerSecond) | to(0)),
  row("CPU-seconds of the host per million messages"; median(.cpuSecondsPerMillion) | to(2)),
  row("CPU-seconds of the broker per million"; median(.brokerCpuSecondsPerMillion) | to(2)),
  row("CPU-seconds of the edge nodes per million"; median(.loadCpuSecondsPerMillion) | to(2)),
  row("memory of the host, peak, MiB"; median(.peakMemoryMiB) | to(0)),
  row("without a network, messages per CPU-second"; median(.pureMessagesPerSecond) | to(0)),
  row("lost, gaps, rebirths, in all rounds"; [map(.lost), map(.gaps), map(.rebirths)] | map(add | tostring) | join(", "))
' "$work/results"
