package node

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// TestMatrix steps a node with each event in each state, and compares with
// testdata/matrix.golden. The primary host is one of the node's conditions, and
// there are two servers, so that every transition has its cause here.
func TestMatrix(t *testing.T) {
	up := []string{"connecting bdseq=1", "connected"}
	online := append(up[:2:2], "state online t=10")
	states := []struct {
		name  string
		steps []string
	}{
		{"offline", nil},
		{"connecting", up[:1]},
		{"connecting, the host has been seen", []string{up[0], "state online t=10"}},
		{"waiting", up},
		{"birthing, nothing is out", append(up[:2:2], "block", "state online t=10")},
		{"birthing, NBIRTH is out", append(up[:2:2], "take 1", "state online t=10", "block")},
		{"online", online},
		{"online, a sample waits", append(online[:3:3], "block", "update temp=21", "unblock")},
		{"online, births are asked for", append(online[:3:3], "command Node_Control/Rebirth=true")},
		{"online, the device is down", append(online[:3:3], "device press down")},
		{"ending, NDEATH is due", append(online[:3:3], "block", "leave")},
		{"ending, NDEATH is out", append(online[:3:3], "leave")},
	}
	events := []string{
		"connecting bdseq=2", "connected", "connected limit=50", "disconnected",
		"state online t=11", "state offline t=11", "state offline t=1", "foreign offline t=11",
		"command Node_Control/Rebirth=true", "command Node_Control/Next_Server=true", "command mode=2", "command press goal=2",
		"update temp=30", "update press goal=7", "wrote mode=4",
		"device press down", "device press up", "device press remove", "device saw add",
		"wait 1s", "wait 10s", "written", "resync", "leave",
	}
	var out bytes.Buffer
	for _, state := range states {
		fmt.Fprintf(&out, "## %s\n", state.name)
		for _, event := range events {
			st := newStage(t, Config{PrimaryHost: "scada", Servers: 2})
			run := func(step string) {
				st.lines = nil
				st.know(step)
				st.step(step)
			}
			for _, s := range state.steps {
				run(s)
			}
			run(event)
			for i, l := range st.lines {
				st.lines[i] = strings.TrimSpace(l)
			}
			line := fmt.Sprintf("%-36s -> %-10s %s", event, st.c.State(), strings.Join(st.lines, "; "))
			out.WriteString(strings.TrimRight(line, " ") + "\n")
			// What is held back must come: the strict host reads the rest.
			st.blocked, st.take = false, -1
			run("wait 1m")
		}
		fmt.Fprintln(&out)
	}
	compare(t, "testdata/matrix.golden", out.Bytes())
}
