package edge

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge/internal/node"
)

func waits(number uint64, device, text string) node.Record {
	return node.Record{Number: number, Device: device, Metric: Sample("m", text)}
}

func over(number uint64) node.Record { return node.Record{Number: number, Done: true} }

// reopen is what another process finds.
func reopen(t *testing.T, path string) (h *history, found string, lost int) {
	t.Helper()
	h, list, lost, err := openHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		text, _ := r.Metric.Value.Text()
		found += fmt.Sprintf("%d%s=%s ", r.Number, r.Device, text)
	}
	return h, strings.TrimSpace(found), lost
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestHistoryFile: what waits is found again, in order, without what is over; a write
// that was cut short, at any byte, takes no other record with it.
func TestHistoryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	h, found, _ := reopen(t, path)
	if found != "" {
		t.Fatal(found)
	}
	first := []node.Record{waits(1, "", "a"), waits(2, "d", "b")}
	must(t, h.append(first, func() []node.Record { return first }))
	must(t, h.append([]node.Record{over(1), waits(9, "", "c")}, nil))
	must(t, h.append([]node.Record{waits(10, "d", "last")}, nil))
	must(t, h.sync())
	if _, found, lost := reopen(t, path); found != "2d=b 9=c 10d=last" || lost != 0 {
		t.Errorf("%s; %d bytes lost", found, lost)
	}
	whole, err := os.ReadFile(path)
	must(t, err)
	last := len(appendFrame(nil, &node.Record{Number: 10, Device: "d", Metric: Sample("m", "last")}))
	for cut := 1; cut <= last; cut++ {
		must(t, os.WriteFile(path, whole[:len(whole)-cut], 0o600))
		if _, found, lost := reopen(t, path); found != "2d=b 9=c" || lost != last-cut {
			t.Fatalf("%d bytes less: %s; %d bytes lost", cut, found, lost)
		}
	}
	for i := len(historyMagic); i < len(whole); i++ { // whatever a byte becomes, it is no value that was never given
		b := slices.Clone(whole)
		b[i] ^= 0x55
		must(t, os.WriteFile(path, b, 0o600))
		_, found, lost := reopen(t, path)
		if lost == 0 || strings.Trim(strings.NewReplacer("1=a", "", "2d=b", "", "9=c", "", " ", "").Replace(found), " ") != "" {
			t.Fatalf("byte %d: %q; %d bytes lost", i, found, lost)
		}
	}
	must(t, os.WriteFile(path, []byte("something else"), 0o600))
	if _, _, _, err := openHistory(path); err == nil {
		t.Error("another file is taken for a history")
	}
}

// TestHistoryFileStaysSmall: what is over is taken away before the file has grown to
// twice what waits.
func TestHistoryFileStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	h, _, _ := reopen(t, path)
	text := strings.Repeat("x", 1000)
	var waiting []node.Record
	for n := uint64(1); n <= 5000; n++ {
		waiting = append(waiting, waits(n, "", text))
		change := []node.Record{waiting[len(waiting)-1]}
		if len(waiting) > 100 {
			change = append(change, over(waiting[0].Number))
			waiting = waiting[1:]
		}
		must(t, h.append(change, func() []node.Record { return waiting }))
		if s, err := os.Stat(path); err != nil || s.Size() > roomy+2000 {
			t.Fatalf("%d samples: %v, %v", n, s.Size(), err)
		}
	}
	_, list, _, err := openHistory(path)
	if err != nil || len(list) != 100 || list[0].Number != 4901 {
		t.Errorf("%d found, %v", len(list), err)
	}
}

// TestHistoryWithoutAFile: samples are taken although the file cannot be written, and
// are in it once it can.
func TestHistoryWithoutAFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	path := filepath.Join(dir, "history")
	cfg := Config{Group: "G", Node: "N", Servers: []string{"mqtt://127.0.0.1:1"}, File: filepath.Join(t.TempDir(), "bdseq"),
		HistoryFile: path, History: 3, Metrics: []Metric{Readable("m", "")}, Devices: []Device{{Name: "d", Metrics: []Metric{Readable("m", "")}}}}
	n, err := New(cfg)
	must(t, err)
	for _, text := range []string{"a", "b", "c", "d"} {
		must(t, n.Update("", Sample("m", text)))
	}
	must(t, os.Mkdir(dir, 0o700))
	n.mu.Lock()
	n.keep(true)
	n.mu.Unlock()
	must(t, n.Update("d", Sample("m", "e")))
	if _, found, _ := reopen(t, path); found != "3=c 4=d 5d=e" {
		t.Errorf("found %s", found)
	}
	// Another process: what has no place any more is dropped, and the bound is kept.
	cfg.Devices, cfg.Metrics = nil, []Metric{Readable("m", "")}
	n, err = New(cfg)
	must(t, err)
	if s := n.Stats(); s.Waiting != 3 {
		t.Errorf("%+v", s)
	}
	must(t, n.Update("", Sample("m", "f")))
	if s := n.Stats(); s.Waiting != 3 || s.Dropped != 1 {
		t.Errorf("%+v", s)
	}
	must(t, n.AddDevice(Device{Name: "d", Metrics: []Metric{{Metric: sparkplug.Metric{Name: []byte("m"), Datatype: sparkplug.TypeInt8, Null: true}}}}))
	if s := n.Stats(); s.Waiting != 2 || s.Dropped != 2 {
		t.Errorf("%+v", s)
	}
	if _, found, _ := reopen(t, path); found != "4=d 6=f" {
		t.Errorf("found %s", found)
	}
}
