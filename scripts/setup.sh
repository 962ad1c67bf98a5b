# Sourced by the other scripts: finds what they need, installs what it may, and
# says plainly what will be skipped. Sets RACE ("-race" or "") and SKIPPED.
#
# WILCO_NO_INSTALL=1 keeps it from installing anything.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/local/go/bin:/usr/sbin"
SKIPPED=()

if ! command -v go >/dev/null; then
	echo "wilco needs Go, and there is none in PATH: see https://go.dev/doc/install" >&2
	exit 1
fi

# A checkout that git will not read (no git, another owner) is built without
# the revision in it, and is no error.
if ! git status >/dev/null 2>&1; then
	export GOFLAGS="${GOFLAGS:-} -buildvcs=false"
fi

# apt_install PACKAGE...: true when they were installed.
apt_install() {
	[ -z "${WILCO_NO_INSTALL:-}" ] && command -v apt-get >/dev/null || return 1
	local as=()
	if [ "$(id -u)" != 0 ]; then
		sudo -n true 2>/dev/null || return 1
		as=(sudo -n)
	fi
	echo "installing $* with apt-get"
	"${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null &&
		"${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >/dev/null
}

# need_race sets RACE: the race detector wants a C compiler.
need_race() {
	RACE=-race
	if [ "$(go env CGO_ENABLED)" = 1 ] && command -v "$(go env CC)" >/dev/null; then
		return
	fi
	if [ "${CGO_ENABLED:-1}" = 1 ] && apt_install gcc libc6-dev; then
		export CGO_ENABLED=1
		return
	fi
	RACE=
	SKIPPED+=("the race detector: it wants gcc (apt-get install gcc libc6-dev)")
}

# need_mosquitto looks for the broker that the interoperability tests run against.
need_mosquitto() {
	if ! command -v mosquitto >/dev/null && ! apt_install mosquitto; then
		SKIPPED+=("the tests against Mosquitto: there is no mosquitto (apt-get install mosquitto)")
	fi
}
