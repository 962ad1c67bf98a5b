#!/usr/bin/env bash
# Measures `wilco broker` and Eclipse Mosquitto side by side and prints one table
# (Markdown) with medians and ratios. Run it from anywhere; it builds what it needs
# and leaves nothing behind. On an idle machine it takes about 4 minutes:
#
#   rounds x 9 loads x 2 brokers x (FOR + half a second)
#
# Each measurement has a fresh broker process, so that memory and CPU time are its
# own. The brokers take turns within a round, and change who begins from round to
# round, so that what else goes on in the machine hits both. Look at the ratios:
# absolute figures are those of one machine at one time.
#
# Mosquitto runs with the configuration below. What differs from its defaults:
#   max_queued_messages 0    no bound: the default of 1000 would drop messages
#   max_inflight_messages 0  no bound: the default of 20 would hold back subscribers
#   set_tcp_nodelay true     for QoS 1 and 2 with one publisher and one subscriber,
#                            where it makes it faster; elsewhere it makes it slower
# `wilco broker` runs with its defaults. Neither writes to disk.
#
# Environment: FOR=3s  ROUNDS=3  SIZE=64  WINDOW=100  QOS="0 1 2"
#              SHAPES="1-1 1-50 50-1" (publishers-subscribers)
#              MOSQUITTO=/usr/sbin/mosquitto  MOSQUITTO_CONF="more lines"
#              LOAD="command that takes the flags of wilco bench mqtt"
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for=${FOR:-3s} rounds=${ROUNDS:-3} size=${SIZE:-64} window=${WINDOW:-100}
read -ra levels <<<"${QOS:-0 1 2}"
read -ra shapes <<<"${SHAPES:-1-1 1-50 50-1}"
mosquitto=${MOSQUITTO:-$(PATH=$PATH:/usr/sbin command -v mosquitto || true)}
[[ -n $mosquitto ]] || { echo "mqtt.sh: mosquitto is not installed; set MOSQUITTO" >&2; exit 1; }
command -v jq >/dev/null || { echo "mqtt.sh: jq is not installed" >&2; exit 1; }

work=$(mktemp -d)
pid=
stop() { # the broker that runs, if one does
  [[ -n $pid ]] || return 0
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  pid=
}
trap 'stop; rm -rf "$work"' EXIT

(cd "$here" && go build -o "$work/wilco" ./cmd/wilco)
load=${LOAD:-$work/wilco bench mqtt}

start_wilco() {
  "$work/wilco" broker --tcp 127.0.0.1:0 --anonymous >"$work/out" 2>"$work/err" &
  pid=$!
  for _ in {1..200}; do
    address=$(sed -n 's/^ready .*tcp=\([^ ]*\).*/\1/p' "$work/out")
    [[ -n $address ]] && return
    sleep 0.02
  done
  echo "mqtt.sh: wilco broker did not start" >&2
  cat "$work/err" >&2
  exit 1
}

start_mosquitto() { # QOS SHAPE
  local port nodelay=false
  if [[ $1 != 0 && $2 == 1-1 ]]; then nodelay=true; fi
  for _ in {1..20}; do
    port=$((20000 + RANDOM % 12000)) # below the ports that connections come from
    cat >"$work/mosquitto.conf" <<CONF
user $(id -un)
listener $port 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay $nodelay
${MOSQUITTO_CONF:-}
CONF
    "$mosquitto" -c "$work/mosquitto.conf" >"$work/out" 2>"$work/err" &
    pid=$!
    for _ in {1..200}; do
      if ! kill -0 "$pid" 2>/dev/null; then break; fi # the port was taken
      if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        address=127.0.0.1:$port
        return
      fi
      sleep 0.02
    done
    stop
  done
  echo "mqtt.sh: mosquitto did not start" >&2
  cat "$work/out" "$work/err" >&2
  exit 1
}

# measure BROKER QOS PUBS SUBS appends a line to results.
measure() {
  "start_$1" "$2" "$3-$4"
  # shellcheck disable=SC2086 # load is a command with arguments
  timeout 120 $load --url "mqtt://$address" --qos "$2" --pubs "$3" --subs "$4" --size "$size" \
    --window "$window" --for "$for" --server-pid "$pid" --json >"$work/json"
  stop
  jq -r --arg broker "$1" '[$broker, .qos, "\(.publishers)-\(.subscribers)", .deliveredPerSecond,
    .cpuSecondsPerMillion // 0, .loadCpuSecondsPerMillion // 0, .p50Ms // 0, .p99Ms // 0, .peakMemoryMiB // 0,
    .lost, .outOfOrder, .duplicates] | @tsv' "$work/json" >>"$work/results"
}

for ((round = 1; round <= rounds; round++)); do
  brokers=(wilco mosquitto)
  ((round % 2)) || brokers=(mosquitto wilco)
  for qos in "${levels[@]}"; do
    for shape in "${shapes[@]}"; do
      echo "round $round of $rounds: QoS $qos, $shape" >&2
      for broker in "${brokers[@]}"; do
        measure "$broker" "$qos" "${shape%-*}" "${shape#*-}"
      done
    done
  done
done

echo "$size-byte messages, $for, $rounds rounds, medians; $(nproc) CPUs; $("$mosquitto" -h | head -n 1), $(go env GOVERSION)"
echo "w: wilco broker, m: mosquitto; /s: messages delivered; cpu: CPU-seconds of the broker per million of these;"
echo "load: those of the load generator; ms: from sending to arrival at full load, p50 / p99; flaws: lost + out of order + duplicates"
echo
sort -s -k2,2n -k3,3 "$work/results" | awk -F'\t' '
function median(key, n,   i, j, v, a) {
  for (i = 1; i <= n; i++) a[i] = value[key, i]
  for (i = 2; i <= n; i++) { v = a[i]; for (j = i - 1; j > 0 && a[j] > v; j--) a[j + 1] = a[j]; a[j + 1] = v }
  return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
}
function of(broker, field) { return median(broker FS load FS field, count[broker, load]) }
function ratio(a, b) { return b > 0 ? sprintf("%.1f", a / b) : "-" }
{
  load = $2 FS $3
  if (!(load in known)) { known[load] = 1; order[++loads] = load }
  n = ++count[$1, load]
  for (f = 4; f <= 9; f++) value[$1 FS load FS f, n] = $f
  flaws[$1, load] += $10 + $11 + $12
}
END {
  print "| QoS | pubs-subs | w /s | m /s | w:m | w cpu | m cpu | m:w | w load | m load | w ms | m ms | w MiB | m MiB | w flaws | m flaws |"
  print "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
  for (i = 1; i <= loads; i++) {
    load = order[i]; split(load, name, FS)
    printf "| %s | %s | %.0f | %.0f | %s | %.2f | %.2f | %s | %.2f | %.2f | %.1f / %.1f | %.1f / %.1f | %.0f | %.0f | %d | %d |\n",
      name[1], name[2], of("wilco", 4), of("mosquitto", 4), ratio(of("wilco", 4), of("mosquitto", 4)),
      of("wilco", 5), of("mosquitto", 5), ratio(of("mosquitto", 5), of("wilco", 5)), of("wilco", 6), of("mosquitto", 6),
      of("wilco", 7), of("wilco", 8), of("mosquitto", 7), of("mosquitto", 8), of("wilco", 9), of("mosquitto", 9),
      flaws["wilco", load], flaws["mosquitto", load]
  }
}'
