package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wilco-iot/wilco/internal/testkit"
)

// wordWilco: [!] wilco ARGS... runs the program under test.
func wordWilco(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(program("wilco"), args...)
	if neg && err == nil {
		ts.Fatalf("it succeeded")
	}
	if !neg {
		ts.Check(err)
	}
}

// wordExits: exits CODE wilco ARGS... wants an exit code.
func wordExits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 1 && args[1] == "wilco", "exits CODE wilco ARGS...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(program("wilco"), args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// wordWatch: watch PATTERN ARGS... runs wilco watch until a line matches,
// interrupts it, and leaves what it has printed as stdout.
func wordWatch(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 0, "watch PATTERN ARGS...")
	w := of(ts)
	pattern := regexp.MustCompile(args[0])
	r, pipe, err := os.Pipe()
	ts.Check(err)
	defer r.Close()
	p, err := spawn("wilco watch", pipe, w.env(), append([]string{program("wilco"), "watch"}, args[1:]...)...)
	pipe.Close()
	ts.Check(err)
	timer := time.AfterFunc(patience, p.kill)
	defer timer.Stop()
	found := false
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(ts.Stdout(), lines.Text())
		if !found && pattern.MatchString(lines.Text()) {
			found = true
			ts.Check(p.cmd.Process.Signal(os.Interrupt))
		}
	}
	<-p.exited
	if !found || p.err != nil {
		ts.Fatalf("no line matched %q, or it ended badly: %v\n%s", args[0], p.err, p.out.String())
	}
}

// wordServe: serve [FLAGS...] starts the server, with the broker that the
// scripts run against, and waits until it is ready. It is stopped at the end of
// the script, and must then stop cleanly.
func wordServe(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg, "serve [FLAGS...]")
	w := of(ts)
	if w.binary != "" && w.broker == nil {
		ts.Check(w.startMosquitto())
	}
	w.flags = args
	ts.Check(w.serve())
}

// startMosquitto starts Mosquitto with what wilco writes for it. That needs a
// database, so the server has to run once before.
func (w *world) startMosquitto() error {
	first, err := serve(w.env())
	if err == nil {
		err = first.stop()
	}
	if err != nil {
		return err
	}
	if w.broker, err = newMosquitto(w.binary, filepath.Join(w.dir, "mosquitto"), w.data); err != nil {
		return err
	}
	w.mqtt = w.broker.address
	w.ts.Setenv("BROKER", "mqtt://"+w.mqtt)
	return w.broker.start()
}

func (w *world) serve() error {
	if w.server != nil {
		return errors.New("the server runs already")
	}
	flags := []string{"--policy-ack-by", "5m"} // a script that stands still for seconds is sent nothing twice
	if w.broker != nil {
		flags = append(flags, "--broker-url", w.broker.url, "--broker-version", w.versionName())
	}
	flags = append(flags, w.flags...)
	var err error
	w.server, err = serve(w.env(), flags...)
	if err != nil || w.broker == nil {
		return err
	}
	// It is ready before the broker lets it in.
	return within(patience, func() error {
		var h struct{ Ready bool }
		return w.ask(&h, "health")
	})
}

// wordCertify: certify makes an authority, ca.pem, and a certificate of it for
// 127.0.0.1, cert.pem with key.pem, in place of those that were there.
func wordCertify(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 0, "certify")
	w := of(ts)
	ca := testkit.NewCA(w.t)
	ca.Write(w.dir)
	testkit.WriteCert(w.t, w.dir, ca.Sign("server", nil))
}

// wordStopServer: stopserver stops it, and it must stop cleanly.
func wordStopServer(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 0, "stopserver")
	w := of(ts)
	s := w.server
	w.server = nil
	ts.Check(s.stop())
}

// wordKillServer: killserver ends it with SIGKILL.
func wordKillServer(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 0, "killserver")
	w := of(ts)
	w.server.kill()
	w.server = nil
}

// wordRestart: restart starts the server again, after stopping it cleanly if it
// runs, with the flags of before.
func wordRestart(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 0, "restart")
	w := of(ts)
	if w.server != nil {
		s := w.server
		w.server = nil
		ts.Check(s.stop())
	}
	ts.Check(w.serve())
}

// wordAdd: add GROUP/DEVICE [FLAGS...] registers a device, with the broker too.
func wordAdd(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 0, "add GROUP/DEVICE [FLAGS...]")
	w := of(ts)
	var d struct{ Secret string }
	ts.Check(w.ask(&d, append([]string{"device", "add"}, args...)...))
	w.secrets[args[0]] = d.Secret
	ts.Setenv("SECRET", d.Secret)
	if w.broker != nil {
		ts.Check(w.broker.configure(w.data))
		ts.Check(w.broker.reload(args[0], d.Secret))
	}
}

// wordDevice: device GROUP/DEVICE starts the example program of the device
// library, which understands set, move and fail. Its journal stays over poweroff.
func wordDevice(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "device GROUP/DEVICE")
	w := of(ts)
	name := args[0]
	if d := w.devices[name]; d != nil && d.running() {
		ts.Fatalf("%s has power already", name)
	}
	p, err := spawn("device "+name, nil, nil, program("device"), "--server", "mqtt://"+w.mqtt, "--device", name,
		"--secret", w.secret(name), "--dir", filepath.Join(w.dir, "journals", strings.ReplaceAll(name, "/", "-")))
	ts.Check(err)
	w.devices[name] = p
}

// wordPowerOff: poweroff GROUP/DEVICE ends the example program with SIGKILL.
func wordPowerOff(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "poweroff GROUP/DEVICE")
	w := of(ts)
	d := w.devices[args[0]]
	if d == nil {
		ts.Fatalf("%s has no power", args[0])
	}
	d.kill()
	delete(w.devices, args[0])
}

func (w *world) secret(name string) string {
	s, ok := w.secrets[name]
	if !ok {
		w.ts.Fatalf("there is no secret of %s; use add", name)
	}
	return s
}

// userOf gives user and password of a URL.
func userOf(raw string) (user, secret string, err error) {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return "", "", fmt.Errorf("%q names no user: %v", raw, err)
	}
	secret, _ = u.User.Password()
	return u.User.Username(), secret, nil
}
