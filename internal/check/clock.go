package check

import (
	"debug/elf"
	"os/exec"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// clockCannotStep tells why a broker cannot be started with another time:
// libfaketime is what does it without touching the machine's clock, and it
// stands between a program and its C library.
func clockCannotStep(command []string) string {
	if _, err := exec.LookPath("faketime"); err != nil {
		return "needs the command faketime (libfaketime), to start the broker 19 hours later"
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err.Error()
	}
	f, err := elf.Open(path)
	if err != nil {
		return "" // a script: what it starts is seen when it runs
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return ""
		}
	}
	return "the broker is statically linked: faketime cannot give it another time"
}

// clockStep has messages that are older than 18 h 12 min, which is when 16 bits
// of seconds come round, in one queue with new ones.
func clockStep(t *trial) {
	topic := t.topic("t")
	sub, pub := t.client("subscriber"), t.client("p")
	for _, c := range []*client{sub, pub} {
		c.window, c.expiry = 10, 7*24*time.Hour
		if !c.connect() {
			return
		}
	}
	sub.subscribe(topic, mqtt.AtLeastOnce)
	sub.leave()
	for _, front := range [][]string{{"faketime", "-f", "+19h"}, {"faketime", "-f", "+38h"}} {
		pub.send(30, message{topic: topic, qos: 1})
		pub.leave()
		t.process.stop()
		if !t.restart(front...) || !pub.connect() {
			return
		}
	}
	pub.send(30, message{topic: topic, qos: 1})
	if sub.connect() {
		if !sub.connack.SessionPresent {
			t.skip("the session did not outlive a restart in good order; has the broker a disk?")
			return
		}
		t.check(Rule{}, sub, pub)
	}
	t.process.stop()
	t.restart()
}

// restart starts the broker, and waits until it lets a client in.
func (t *trial) restart(front ...string) bool {
	if err := t.process.start(front...); err != nil {
		return t.stop(err)
	}
	if err := t.ready(t.ctx); err != nil {
		return t.stop(err)
	}
	return true
}
