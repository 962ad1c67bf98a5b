package archtest

// A package imports only packages of the module that stand in a lower layer.
// Those of one layer do not import each other: what joins them stands above.
// Test files are free in what they import, as far as Go lets them.
//
// A new package gets a line here, in the lowest layer that is above everything
// it imports. A line for a package that is not there yet does no harm.
var layers = []layer{
	{"ground: imports nothing of ours", []unit{
		{"mqtt", pure | public | std, "packets: for everybody who speaks MQTT"},
		{"wire", pure | public | std, "the device contract, shared by server and firmware"},
		{"wire/state", pure | public | std, "the documents of a device's state"},
		{"order", pure | public, "sequences, gaps, lanes"},
		{"sparkplug", pure | public, "Sparkplug B: names, payloads, STATE"},
		{"client", public, "the HTTP API's client: its users must not get the server with it"},
		{"mqtt/pipe", public | std, "in-process connections"},
		{"mqtt/client/internal/ring", pure, "a queue"},
		{"internal/fault", 0, "the one table of errors"},
		{"internal/near", pure, "what a misspelt name may have meant"},
		{"internal/deps", testDeps, "keeps chosen dependencies in go.mod until they have users"},
		{"internal/archtest", 0, "this"},
		{"internal/conformance", 0, "the page of the standards' statements"},
	}},
	{"cores: decide, and touch nothing", []unit{
		{"mqtt/client/internal/flow", pure, "the client's session"},
		{"broker/session", pure | public, "the broker's session"},
		{"internal/command", pure, "the life of a command"},
		{"internal/replica", pure, "desired, reported and delta"},
		{"internal/hook/schedule", pure, "which delivery is tried when"},
		{"internal/spjson", pure, "the JSON form of Sparkplug values"},
		{"internal/spcommand", pure, "what became of what was asked of Sparkplug metrics"},
		{"internal/gateway/rules", pure, "when a gateway acts on its own"},
		{"sparkplug/session", pure | public, "births, deaths and sequence numbers"},
		{"sparkplug/host/internal/rebirth", pure, "when to ask for a rebirth"},
		{"device/internal/ledger", 0, "the device's journal"},
		{"sparkplug/edge/internal/node", pure, "what a Sparkplug edge node says"},
	}},
	{"ports: what the parts above are joined by", []unit{
		{"mqtt/client", public, "the ordered client"},
		{"broker/store", public, "the broker's queue"},
		{"internal/store", 0, "what is stored"},
		{"internal/catalog", 0, "command types"},
		{"internal/undo", pure, "how a command is taken back"},
		{"internal/rollout/plan", pure, "the life of a roll-out"},
	}},
	{"parts: each stands alone", []unit{
		{"mqtt/client/filestore", public, "the client's session on disk"},
		{"broker", public, "the embeddable server"},
		{"broker/store/pebble", public, "the broker's queue on disk"},
		{"device", public, "the device library"},
		{"sparkplug/host", public, "the Sparkplug host application"},
		{"sparkplug/edge", public, "a Sparkplug edge node"},
		{"internal/config", 0, "the configuration file"},
		{"internal/store/storetest", tests, "the suite over every store"},
		{"broker/store/storetest", tests, "the suite over every queue"},
		{"internal/gateway/ledger", 0, "a gateway's former states, as a chain"},
		{"internal/testkit", tests, "what several packages' tests need"},
	}},
	{"server: commands, devices, disks", []unit{
		{"internal/engine", 0, "runs the lifecycle over any store"},
		{"internal/fleet", 0, "devices, identities, rights"},
		{"internal/gateway/config", 0, "a gateway's file"},
		{"internal/gateway/uplink", 0, "what goes up from a gateway, in order and once"},
		{"internal/audit", 0, "who did what, as a chain"},
		{"internal/hook", 0, "what happens at the end of a command"},
		{"internal/rollout", 0, "one command to many devices"},
		{"internal/catalog/shelf", 0, "command types, kept"},
		{"internal/store/sqlite", 0, "one file"},
		{"internal/store/postgres", 0, "several servers"},
	}},
	{"joints: put parts together through what each declares", []unit{
		{"internal/fleet/authority", 0, "the fleet's rights for the broker"},
		{"internal/fleet/mosquitto", 0, "the fleet's rights for Mosquitto"},
		{"internal/link", 0, "the engine's words on MQTT"},
		{"internal/edgelink", 0, "the engine's words to Sparkplug edge nodes"},
		{"internal/service", 0, "one method a use case"},
		{"internal/sim", 0, "fleets of devices, with faults"},
		{"internal/check", 0, "the conformance and ordering tester"},
	}},
	{"faces: what people and programs see", []unit{
		{"internal/api", 0, "HTTP"},
		{"internal/oidc", 0, "people of an issuer elsewhere"},
		{"internal/requests", 0, "MQTT 5 request/response"},
		{"internal/web", 0, "the built web UI"},
	}},
	{"the whole server", []unit{
		{"internal/app", 0, "joins everything, starts and stops it"},
		{"internal/api/apitest", tests, "the API over the real parts, for its clients' tests"},
	}},
	{"the whole server elsewhere", []unit{
		{"internal/gateway", 0, "a server at the edge, and its link to the one above"},
	}},
	{"uses of the whole", []unit{
		{"internal/scenario", 0, "what somebody wrote that a fleet and a server go through"},
		{"internal/demo", 0, "a server with a fleet, to look at"},
		{"internal/bench", testDeps, "loads, with other clients as peers"},
		{"internal/interop", tests, "against other brokers and clients"},
	}},
	{"the command line", []unit{
		{"internal/cli", 0, "words to use cases"},
	}},
	{"main", []unit{
		{"cmd/...", 0, "signals and os.Exit only"},
		{"examples/...", public, "what a user of the public packages writes"},
		{"bench/...", testDeps, "peers side by side"},
		{"e2e/...", tests, "the built binary"},
	}},
}

type layer struct {
	name  string
	units []unit
}

// unit is a package, or with /... all below it.
type unit struct {
	path string // within the module
	is   mark
	why  string
}

type mark uint

const (
	pure     mark = 1 << iota // reads no clock, network, disk, log or randomness
	public                    // imported by others: nothing of internal/ at the module's root
	std                       // the standard library only
	tests                     // imported by tests only; may import "testing"
	testDeps                  // may import what else only tests may
)

// impureImports are closed to pure packages, with all that is below them.
var impureImports = []string{"net", "os", "log", "syscall", "math/rand", "crypto/rand", "io/ioutil", "path/filepath", "runtime", "database/sql"}

// impureCalls read a clock or a source of randomness.
var impureCalls = map[string][]string{
	"time": {"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"},
	"github.com/google/uuid": {"New", "NewString", "NewRandom", "NewRandomFromReader", "NewUUID", "NewV6", "NewV7",
		"NewV7FromReader", "NewDCEGroup", "NewDCEPerson", "NewDCESecurity"},
}

// onlyForTests are closed to what is not a test, with all that is below them.
var onlyForTests = []string{
	"testing",
	"github.com/eclipse/paho.golang", "github.com/eclipse/paho.mqtt.golang",
	"pgregory.net/rapid", "go.uber.org/goleak", "github.com/rogpeppe/go-internal",
}

// mayPoll are the test files that look again after a short sleep, because what
// they wait for has no way to tell. Each has its reason.
var mayPoll = map[string]string{
	"broker/peer_test.go":              "counters that follow the end of goroutines",
	"internal/interop/interop_test.go": "a foreign client does not say when it has subscribed",
}

// noNames say nothing about what is inside.
var noNames = []string{"util", "utils", "common", "types", "helpers", "helper", "misc", "shared", "base"}

// maxLines of a file that is not a test. A longer one wants two names.
const maxLines = 700
