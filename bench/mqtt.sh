#!/usr/bin/env bash
# Measures `wilco broker` beside Eclipse Mosquitto and the MQTT of a NATS server,
# and prints one table (Markdown) with medians, and how each target was met. Run
# it from anywhere; it builds what it needs and leaves nothing behind. A peer that
# is not there is left out, and the table says so. On an idle machine it takes
# about 9 minutes; ROUNDS=1 FOR=1s takes 2.
#
# Each measurement has a fresh broker process, so that memory and CPU time are its
# own. The brokers take turns at each load, and change who begins from round to
# round, so that what else goes on in the machine hits all. Look at the ratios:
# absolute figures are those of one machine at one time.
#
# How the brokers run, where it is not their defaults:
#   Mosquitto: max_queued_messages 0    no bound: the default of 1000 would drop messages
#              max_inflight_messages 0  no bound: the default of 20 would hold back subscribers
#              set_tcp_nodelay true     with one publisher and one subscriber above QoS 0,
#                                       where it makes it faster; elsewhere it makes it slower
#   NATS:      JetStream in files; at "durable" with a flush for each message
#   wilco:     at "durable" and "queue" with --data, which is with an fsync before
#              each acknowledgement
# At "connect" each asks for a user and a password. NATS speaks MQTT 3.1.1, the
# others MQTT 5.
#
# Environment: FOR=3s  ROUNDS=3  SIZE=64  WINDOW=100  CONNECTIONS=10000  MESSAGES=100000
#              ROWS=regular expression of the names of loads, such as 'qos1|queue'
#              PEERS="mosquitto nats"  MOSQUITTO=/usr/sbin/mosquitto
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for=${FOR:-3s} rounds=${ROUNDS:-3} size=${SIZE:-64} window=${WINDOW:-100}
connections=${CONNECTIONS:-10000} messages=${MESSAGES:-100000}
ulimit -n "$(ulimit -Hn)"

command -v jq >/dev/null || { echo "mqtt.sh: jq is not installed" >&2; exit 1; }

work=$(mktemp -d)
pid=
stop() { # the broker that runs, if one does
  if [[ -n $pid ]]; then
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    pid=
  fi
  rm -rf "$work/data" "$work/out" # or the next one's address would be taken from it
}
trap 'stop; rm -rf "$work"' EXIT

(cd "$here" && go build -o "$work/wilco" ./cmd/wilco)

brokers=(wilco) absent=
mosquitto=${MOSQUITTO:-$(PATH=$PATH:/usr/sbin command -v mosquitto || true)}
for peer in ${PEERS-mosquitto nats}; do
  case $peer in
    mosquitto) [[ -n $mosquitto ]] || { absent+=" Mosquitto is not installed."; continue; } ;;
    nats) (cd "$here/bench/peers" && go build -o "$work/nats" .) ||
      { absent+=" NATS could not be built."; continue; } ;;
    *) echo "mqtt.sh: there is no peer $peer" >&2; exit 1 ;;
  esac
  brokers+=("$peer")
done

# listening waits until the broker says where it is.
listening() {
  for _ in {1..500}; do
    address=$(sed -n 's/^ready .*tcp=\([^ ]*\).*/\1/p' "$work/out" 2>/dev/null || true)
    [[ -z $address ]] || return 0
    sleep 0.02
  done
  echo "mqtt.sh: $1 did not start" >&2
  cat "$work/err" >&2
  exit 1
}

start_wilco() { # LOAD
  local flags=(--anonymous)
  case $1 in
    durable | queue) flags+=(--data "$work/data") ;;
    connect) flags=(--user user:password) ;;
  esac
  "$work/wilco" broker --tcp 127.0.0.1:0 "${flags[@]}" >"$work/out" 2>"$work/err" &
  pid=$!
  listening wilco
}

start_nats() { # LOAD
  local flags=()
  case $1 in
    durable) flags=(--sync-always) ;;
    connect) flags=(--user user:password) ;;
  esac
  "$work/nats" "${flags[@]}" "$work/data" >"$work/out" 2>"$work/err" &
  pid=$!
  listening nats
}

start_mosquitto() { # LOAD
  local port nodelay=false access="allow_anonymous true"
  case $1 in qos[12]-1-1 | durable | requests* | queue) nodelay=true ;; esac
  if [[ $1 == connect ]]; then
    access="password_file $work/passwords"
    mosquitto_passwd -c -b "$work/passwords" user password 2>"$work/err"
  fi
  for _ in {1..20}; do
    port=$((20000 + RANDOM % 12000)) # below the ports that connections come from
    cat >"$work/mosquitto.conf" <<CONF
user $(id -un)
listener $port 127.0.0.1
persistence false
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay $nodelay
$access
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

# flags of wilco bench mqtt for a load
flags_of() {
  local stream="--size $size --window $window --for $for"
  case $1 in
    qos*) IFS=- read -r qos pubs subs <<<"${1#qos}"; echo "--qos $qos --pubs $pubs --subs $subs $stream" ;;
    durable) echo "--qos 1 --persistent $stream" ;;
    requests) echo "requests --size $size --for $for" ;;
    requests-5000) echo "requests --size $size --for $for --rate 5000" ;;
    idle) echo "idle --connections $connections" ;;
    queue) echo "queue --size $size --window $window --messages $messages" ;;
    connect*) echo "connect --for 2s" ;; # wilco lets an address in 20,000 times at once, and 10,000 times a second
  esac
}

# measure BROKER LOAD appends its figures to results.
measure() {
  local version=5 user=
  [[ $1 != nats ]] || version=3.1.1
  [[ $2 != connect ]] || user=user:password@
  "start_$1" "$2"
  # shellcheck disable=SC2046 # several words
  timeout 120 "$work/wilco" bench mqtt $(flags_of "$2") --url "mqtt://$user$address" --mqtt-version "$version" \
    --server-pid "$pid" --json >"$work/json" || { echo "mqtt.sh: $1 failed at $2" >&2; echo '{}' >"$work/json"; }
  stop
  jq -r --arg broker "$1" --arg load "$2" 'to_entries[] | select(.value | type == "number") |
    [$broker, $load, .key, .value] | @tsv' "$work/json" >>"$work/results"
}

# What the table shows: load|its name|figure|field|digits|target. A target is of
# the ratio to a peer, or to the better one, or absolute.
table() {
  local qos shape rate cpu
  for qos in 0 1 2; do
    case $qos in
      0) rate=">= 1 nats" cpu="<= 1 nats" ;;
      1) rate=">= 2.5 better" cpu="<= 0.4 mosquitto" ;;
      2) rate=">= 2 better" cpu="<= 0.5 better" ;;
    esac
    for shape in 1-1 1-50 50-1; do
      echo "qos$qos-$shape|QoS $qos, ${shape/-/ to }|delivered/s|deliveredPerSecond|0|$rate"
      echo "qos$qos-$shape|QoS $qos, ${shape/-/ to }|CPU-s per million|cpuSecondsPerMillion|2|$cpu"
    done
  done
  cat <<END
durable|QoS 1 to a persistent session, durable|delivered/s|deliveredPerSecond|0|>= 1.5 mosquitto
durable|QoS 1 to a persistent session, durable|CPU-s per million|cpuSecondsPerMillion|2|
requests|there and back, QoS 1|p50, ms|p50Ms|3|<= 1 mosquitto
requests|there and back, QoS 1|p99, ms|p99Ms|3|<= 1 mosquitto
requests-5000|the same beside 5,000/s|p50, ms|p50Ms|3|<= 1 mosquitto
requests-5000|the same beside 5,000/s|p99, ms|p99Ms|3|<= 1 mosquitto
idle|$connections idle connections|KiB each|kibPerConnection|1|<= 6
queue|$messages messages for a session that is away|queue, s|queueSeconds|2|<= 1 mosquitto
queue|$messages messages for a session that is away|drain, s|drainSeconds|2|<= 1 mosquitto
connect|connect and subscribe, with a password|clients/s|perSecond|0|>= 1 mosquitto
connect-anonymous|connect and subscribe, anonymous|clients/s|perSecond|0|
END
}
table | grep -E "^(${ROWS:-.*})[^|]*\|" >"$work/table" || { echo "mqtt.sh: no load is named ${ROWS:-}" >&2; exit 1; }
mapfile -t loads < <(cut -d'|' -f1 "$work/table" | uniq)

: >"$work/results"
for ((round = 1; round <= rounds; round++)); do
  for load in "${loads[@]}"; do
    echo "round $round of $rounds: $load" >&2
    for ((i = 0; i < ${#brokers[@]}; i++)); do
      measure "${brokers[((i + round) % ${#brokers[@]})]}" "$load"
    done
  done
done

peers=
for broker in "${brokers[@]}"; do
  case $broker in
    mosquitto) peers+=", $("$mosquitto" -h | head -n 1 || true)" ;; # its help is an error to it
    nats) peers+=", NATS server $(cd "$here/bench/peers" && go list -m -f '{{.Version}}' github.com/nats-io/nats-server/v2)" ;;
  esac
done
echo "$size-byte messages, $for, $rounds rounds, medians; $(nproc) CPUs, brokers and load on them; $(go env GOVERSION)$peers.$absent"
echo

awk -F'\t' '
function median(broker, load, field,   k, n, i, j, v, a) {
  k = broker FS load FS field
  n = count[k]
  if (!n) return ""
  for (i = 1; i <= n; i++) a[i] = value[k, i]
  for (i = 2; i <= n; i++) { v = a[i]; for (j = i - 1; j > 0 && a[j] > v; j--) a[j + 1] = a[j]; a[j + 1] = v }
  return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
}
function shown(v, digits) { return v == "" ? "-" : sprintf("%." digits "f", v) }
function better(a, b, most) { return a == "" ? b : b == "" ? a : (most ? a > b : a < b) ? a : b }
FILENAME == ARGV[1] {
  k = $1 FS $2 FS $3
  value[k, ++count[k]] = $4 + 0
  if ($3 ~ /^(lost|outOfOrder|duplicates|refused)$/) flaws[$1, $2] += $4
  next
}
FNR == 1 {
  print "| load | figure | wilco | Mosquitto | NATS | target | reached |"
  print "| --- | --- | ---: | ---: | ---: | --- | ---: |"
}
{
  split($0, row, "|"); split(row[6], want, " ")
  w = median("wilco", row[1], row[4]); m = median("mosquitto", row[1], row[4]); n = median("nats", row[1], row[4])
  peer = want[3] == "nats" ? n : want[3] == "mosquitto" ? m : better(m, n, want[1] == ">=")
  target = ""; reached = ""
  if (want[1] != "") {
    target = want[1] " " want[2] (want[3] == "" ? "" : want[3] == "better" ? " of the better" : want[3] == "nats" ? " of NATS" : " of Mosquitto")
    got = want[3] == "" ? w : peer > 0 ? w / peer : ""
    if (got != "" && w != "") {
      met = want[1] == ">=" ? got >= want[2] : got <= want[2]
      reached = sprintf("%.2f%s", got, met ? "" : " (missed)")
    }
  }
  printf "| %s | %s | %s | %s | %s | %s | %s |\n", row[2], row[3], shown(w, row[5]), shown(m, row[5]), shown(n, row[5]), target, reached
}
END {
  for (k in flaws) if (flaws[k]) { split(k, of, SUBSEP); said = said sprintf("\n%s at %s: %d", of[1], of[2], flaws[k]) }
  print "\nLost, out of order, twice or refused:" (said == "" ? " none, of any broker." : said)
}' "$work/results" "$work/table"
