package edge_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge"
)

const (
	childFile   = "WILCO_TEST_EDGE_FILE" // set: this process is the node of TestKill
	childServer = "WILCO_TEST_EDGE_SERVER"
	childFrom   = "WILCO_TEST_EDGE_FROM" // set: it takes samples from this number on, and says so
)

// TestKillWhileSamplesWait: a process that is killed while it cannot send leaves every
// sample that it took to the next one, and in the end they are all told, in order, as
// history.
func TestKillWhileSamplesWait(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bdseq")
	var taken []float64
	next := 1000
	for range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childFile+"="+file, childServer+"=mqtt://127.0.0.1:1", fmt.Sprint(childFrom, "=", next))
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n, last := 0, rand.IntN(400); lines.Scan(); n++ {
			if n == last {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			x, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			taken, next = append(taken, float64(x)), x+2 // one may have been taken and not said
		}
		_ = cmd.Wait() // it was killed
	}
	address := startBroker(t, broker.AllowAnonymous())
	w := watch(t, address)
	n, stop := run(t, edge.Config{Servers: []string{"mqtt://" + address}, File: file, History: 100_000,
		Metrics: []edge.Metric{edge.Readable("temp", 20.0)}})
	if m := w.next(); m.topic.Type != sparkplug.NBirth {
		t.Fatalf("%s before the births", m.topic.Type)
	}
	last := 0.0
	for len(taken) > 0 {
		for _, m := range w.next().payload.Metrics {
			x, err := m.Value.Float(sparkplug.TypeDouble)
			if err != nil || !m.Historical || x <= last || x > taken[0] {
				t.Fatalf("%g, historical %v, %v; %g came before, and %g was taken next", x, m.Historical, err, last, taken[0])
			}
			if last = x; x == taken[0] {
				taken = taken[1:]
			}
			if len(taken) == 0 {
				break
			}
		}
	}
	stop()
	if s := n.Stats(); s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	again, err := edge.New(edge.Config{Group: "G", Node: "N", File: file, Servers: []string{"mqtt://127.0.0.1:1"}})
	if err != nil || again.Stats().Waiting != 0 || again.Stats().Dropped != 0 {
		t.Errorf("what was told is in the file still: %+v, %v", again.Stats(), err)
	}
}

func child(file, server string) error {
	n, err := edge.New(edge.Config{
		Group: "G", Node: "N", File: file, Servers: []string{server},
		Metrics: []edge.Metric{edge.Readable("temp", 20.0)}, History: 100_000,
	})
	if err != nil {
		return err
	}
	if from, err := strconv.Atoi(os.Getenv(childFrom)); err == nil {
		go func() {
			for x := from; ; x++ {
				if err := n.Update("", edge.Sample("temp", float64(x))); err != nil {
					panic(err)
				}
				fmt.Println(x)
			}
		}()
	}
	return n.Run(context.Background())
}

// A node that is killed again and again, every other time at any moment, never
// uses a bdSeq twice, also over the wrap from 255 to 0: each NBIRTH has a newer
// number than all before, and each Will that of its NBIRTH or of a connection
// that had none.
// Shows [tck-id-topics-nbirth-bdseq-increment] [tck-id-payloads-ndeath-bdseq].
func TestKill(t *testing.T) {
	address := startBroker(t, broker.AllowAnonymous())
	w := watch(t, address)
	file := filepath.Join(t.TempDir(), "bdseq")
	if err := os.WriteFile(file, []byte("245\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	last, births := uint8(245), 0
	read := func(m message) sparkplug.MessageType {
		b, err := m.payload.BdSeq()
		newer := b - last
		switch {
		case err != nil || newer > 5:
			t.Fatalf("%s has bdSeq %d, %v; the last NBIRTH had %d", m.topic.Type, b, err, last)
		case m.topic.Type == sparkplug.NBirth:
			if newer == 0 {
				t.Fatalf("a second NBIRTH has bdSeq %d", b)
			}
			last = b
			births++
		}
		return m.topic.Type
	}
	for i := range 20 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childFile+"="+file, childServer+"=mqtt://"+address)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			for read(w.next()) != sparkplug.NBirth {
			}
		} else {
			<-time.After(rand.N(60 * time.Millisecond))
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it says "killed"
	}
	if births < 10 {
		t.Fatalf("%d births in 20 lives", births)
	}
}
