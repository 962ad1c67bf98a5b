package node

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestStrictHost runs random lives: connections that come, block and go, hosts
// that ask for births, devices that come and go, processes that are killed, samples in between. The oracle
// reads all that is published; in the end, when everything may be sent, it must
// know every present value, and have been told every value there ever was.
func TestStrictHost(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		life(r, rapid.Bool().Draw(r, "primary host"))
	})
}

func life(r *rapid.T, primary bool) {
	cfg := Config{Aliases: rapid.Bool().Draw(r, "aliases"), Echo: rapid.Bool().Draw(r, "echo"), Servers: 1, History: 10_000}
	if primary {
		cfg.PrimaryHost = "scada"
	}
	d := &driver{r: r, st: newStage(r, cfg), given: map[string][]string{}, now: map[string]string{}, value: 1000} // above what is declared
	d.st.host.quiet = true
	for range rapid.IntRange(10, 120).Draw(r, "steps") {
		d.step()
	}
	d.settle()
}

type driver struct {
	r     *rapid.T
	st    *stage
	bdSeq int
	value int
	given map[string][]string // values by stream/metric, while its device was not removed
	now   map[string]string
}

func (d *driver) do(format string, args ...any) {
	step := fmt.Sprintf(format, args...)
	d.st.know(step)
	d.st.lines = nil
	d.st.step(step)
	d.r.Log(step, d.st.c.State())
}

func (d *driver) step() {
	device := rapid.SampledFrom([]string{"press", "saw", "mill"}).Draw(d.r, "device")
	switch rapid.IntRange(0, 15).Draw(d.r, "kind") {
	case 0, 1, 2, 3, 4:
		d.sample(rapid.SampledFrom([]string{"", "press", "saw"}).Draw(d.r, "of"))
	case 5:
		d.connect()
	case 6:
		if rapid.IntRange(0, 3).Draw(d.r, "really") == 0 {
			d.do("disconnected")
		}
	case 7:
		d.do("take %d", rapid.IntRange(0, 4).Draw(d.r, "n"))
	case 8, 9:
		d.do("take -1")
	case 10:
		d.do("command Node_Control/Rebirth=true")
	case 11:
		d.do("wait %dms", rapid.IntRange(0, 1500).Draw(d.r, "ms"))
	case 12:
		d.do("written")
	case 13:
		d.device(device)
	case 14:
		d.do("state %s t=%d", rapid.SampledFrom([]string{"online", "online", "online", "offline"}).Draw(d.r, "word"), 1)
	case 15:
		if rapid.IntRange(0, 3).Draw(d.r, "restart") == 0 {
			clear(d.now) // the declared values again
			d.do("restart")
			return
		}
		if rapid.IntRange(0, 5).Draw(d.r, "really") == 0 {
			d.do("leave")
		}
	}
}

func (d *driver) connect() {
	if d.st.c.State() == Offline {
		d.bdSeq++
		d.do("connecting bdseq=%d", d.bdSeq%256)
	}
	d.do("connected")
}

// device does one of the things that can be done to a device; the strict host
// is told only of those that count.
func (d *driver) device(name string) {
	s := d.st.c.devices[name]
	switch {
	case s == nil:
		d.do("device %s add", name)
	case s.up:
		d.do("device %s down", name)
	case rapid.Bool().Draw(d.r, "remove"):
		for _, m := range []string{"force", "goal"} {
			delete(d.given, name+"/"+m)
			delete(d.now, name+"/"+m)
		}
		d.do("device %s remove", name)
	default:
		d.do("device %s up", name)
	}
}

func (d *driver) sample(device string) {
	if s := d.st.c.find(device); s == nil || !s.up {
		return
	}
	metric := "temp"
	if device != "" {
		metric = rapid.SampledFrom([]string{"force", "goal"}).Draw(d.r, "metric")
	}
	d.value++
	v := fmt.Sprint(d.value)
	d.do("update %s %s=%s", device, metric, v)
	key := device + "/" + metric
	d.given[key] = append(d.given[key], v)
	d.now[key] = v
}

// settle lets everything be sent, and holds what the host knows against what
// was given.
func (d *driver) settle() {
	d.do("take -1")
	if s := d.st.c.State(); s == Ending {
		d.do("disconnected")
	}
	d.connect()
	d.do("state online t=2")
	for _, name := range []string{"press", "saw", "mill"} { // what waits of a lost device waits on
		if s := d.st.c.devices[name]; s != nil && !s.up {
			d.do("device %s up", name)
		}
	}
	d.do("wait 1s")
	if s := d.st.c.State(); s != Online {
		d.r.Fatalf("in the end the node is %s", s)
	}
	if n := d.st.c.Stats().Waiting; n != 0 {
		d.r.Fatalf("%d samples wait although everything may be sent", n)
	}
	d.do("written")
	if len(d.st.file) > 0 {
		d.r.Fatalf("everything is told, and %d samples are in the file", len(d.st.file))
	}
	h := d.st.host
	if len(h.owed) > 0 {
		d.r.Fatalf("births are owed: %v", h.owed)
	}
	for key, list := range d.given {
		for _, v := range list {
			if !slices.Contains(h.told[key], v) {
				d.r.Fatalf("%s=%s was never told; told: %v", key, v, h.told[key])
			}
		}
	}
	for device, s := range h.streams {
		if (device != "") && !h.up[device] {
			d.r.Fatalf("the host takes %s for alive", device)
		}
		for _, x := range s {
			if want, ok := d.now[x.key]; ok && x.value != want {
				d.r.Fatalf("the host has %s=%s, it is %s", x.key, x.value, want)
			}
		}
	}
}
