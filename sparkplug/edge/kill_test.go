package edge_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge"
)

const (
	childFile   = "WILCO_TEST_EDGE_FILE" // set: this process is the node of TestKill
	childServer = "WILCO_TEST_EDGE_SERVER"
)

func child(file, server string) error {
	n, err := edge.New(edge.Config{
		Group: "G", Node: "N", File: file, Servers: []string{server},
		Metrics: []edge.Metric{edge.Readable("temp", 20.0)},
	})
	if err != nil {
		return err
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
