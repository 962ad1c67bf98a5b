package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
)

// brokers are those that the scripts of testdata/messaging run against. With the
// built-in one the version is that of the devices alone: the server is joined to
// it in its own process.
var brokers = []struct {
	name      string
	mosquitto bool
	version   mqtt.Version
}{
	{"built-in-5", false, mqtt.V5},
	{"built-in-3.1.1", false, mqtt.V311},
	{"mosquitto-5", true, mqtt.V5},
	{"mosquitto-3.1.1", true, mqtt.V311},
}

func TestMessaging(t *testing.T) {
	for _, b := range brokers {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			binary := ""
			if b.mosquitto {
				binary = testkit.MosquittoPath(t)
			}
			runScripts(t, "messaging", binary, b.version)
		})
	}
}

func TestLocal(t *testing.T) {
	t.Parallel()
	runScripts(t, "local", "", mqtt.V5)
}

// runScripts runs the scripts of a directory below testdata; mosquitto is the
// path of the broker, "" for the built-in one.
func runScripts(t *testing.T, dir, mosquitto string, v mqtt.Version) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", dir),
		Cmds:                words,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			w, err := newWorld(t, e, mosquitto, v)
			if err != nil {
				return err
			}
			e.Values[worldKey{}] = w
			e.Defer(func() {
				if err := w.close(); err != nil {
					e.T().Fatal(err)
				}
			})
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "mosquitto":
				return mosquitto != "", nil
			case "mqtt5":
				return v == mqtt.V5, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

// words are what a script can say beside testscript's own commands.
var words = map[string]func(*testscript.TestScript, bool, []string){
	// programs
	"wilco": wordWilco,
	"exits": wordExits,
	"watch": wordWatch,
	// the server
	"serve":      wordServe,
	"stopserver": wordStopServer,
	"killserver": wordKillServer,
	"restart":    wordRestart,
	"certify":    wordCertify,
	// devices
	"add":      wordAdd,
	"device":   wordDevice,
	"poweroff": wordPowerOff,
	"online":   wordOnline,
	"offline":  wordOffline,
	// devices that say what the script wants
	"puppet": wordPuppet,
	"leave":  wordLeave,
	"expect": wordExpect,
	"pub":    wordPub,
	"sub":    wordSub,
	// what is awaited and compared
	"tamper":  wordTamper,
	"http":    wordHTTP,
	"await":   wordAwait,
	"anomaly": wordAnomaly,

	"edgenode": wordEdgeNode,
	"let":      wordLet,
	"json":     wordJSON,
	"keys":     wordKeys,
}

type worldKey struct{}

// world is what a script has around it.
type world struct {
	t       testing.TB             // that runs the scripts
	ts      *testscript.TestScript // of the word that runs
	dir     string                 // of the script
	data    string                 // of the server
	http    string                 // address, the same after a restart
	mqtt    string                 // address of the broker for devices
	version mqtt.Version
	flags   []string // of serve, for restart

	binary  string // of mosquitto; "" for the built-in broker
	broker  *mosquitto
	server  *server
	devices map[string]*process
	puppets map[string]*puppet
	secrets map[string]string
}

func newWorld(t testing.TB, e *testscript.Env, binary string, v mqtt.Version) (*world, error) {
	w := &world{t: t, dir: e.WorkDir, data: filepath.Join(e.WorkDir, "data"), version: v, binary: binary, devices: map[string]*process{},
		puppets: map[string]*puppet{}, secrets: map[string]string{}}
	var err, err2 error
	w.http, err = freeAddress()
	w.mqtt, err2 = freeAddress()
	hook, err3 := freeAddress()
	e.Setenv("PATH", programs+string(os.PathListSeparator)+e.Getenv("PATH"))
	e.Setenv("WILCO_DATA", w.data)
	e.Setenv("WILCO_HTTP_ADDRESS", w.http)
	e.Setenv("WILCO_SERVER", "http://"+w.http)
	e.Setenv("WILCO_MQTT_TCP", w.mqtt)
	e.Setenv("WILCO_LOG_LEVEL", "warn")
	e.Setenv("BROKER", "mqtt://"+w.mqtt)
	e.Setenv("HOOK", hook) // where a receiver of webhooks may listen
	return w, errors.Join(err, err2, err3)
}

// close ends everything; the error is that the server did not stop cleanly.
func (w *world) close() error {
	for _, p := range w.puppets {
		p.stop()
	}
	for _, d := range w.devices {
		d.kill()
	}
	var err error
	if w.server != nil {
		err = w.server.stop()
	}
	if w.broker != nil && w.broker.process != nil {
		w.broker.kill()
	}
	return err
}

// of gives the world of a script, for one word.
func of(ts *testscript.TestScript) *world {
	w := ts.Value(worldKey{}).(*world)
	w.ts = ts
	return w
}

// env is what the programs of a script find in their environment.
func (w *world) env() []string {
	env := []string{"PATH=" + w.ts.Getenv("PATH")}
	for _, name := range []string{"WILCO_DATA", "WILCO_HTTP_ADDRESS", "WILCO_SERVER", "WILCO_MQTT_TCP", "WILCO_LOG_LEVEL", "WILCO_TOKEN", "WILCO_CA"} {
		if v := w.ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// ask runs wilco with --json and reads what it prints into out.
func (w *world) ask(out any, args ...string) error {
	cmd := command(append(args, "--json")...)
	cmd.Env, cmd.Dir = w.env(), w.dir
	b, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("wilco %q: %w: %s", args, err, exit.Stderr)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// need is the one argument check of all words.
func need(ts *testscript.TestScript, ok bool, usage string) {
	if !ok {
		ts.Fatalf("usage: %s", usage)
	}
}
