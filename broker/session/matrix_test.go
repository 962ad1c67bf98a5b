package session_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMatrix steps the session with each packet of a client in each state it
// can be in, and compares with testdata/matrix.golden.
func TestMatrix(t *testing.T) {
	states := []struct {
		name  string
		steps []string
	}{
		{"no connection", nil},
		{"idle, MQTT 5", []string{"attach expiry=60"}},
		{"idle, MQTT 3.1.1", []string{"attach v=3"}},
		{"QoS 1 to client, id 1 sent", []string{"attach expiry=60", "message t x qos=1", "next"}},
		{"QoS 1 to client, id 1 of an earlier connection", []string{"attach expiry=60", "message t x qos=1", "next", "detach", "attach expiry=60"}},
		{"QoS 1 to client, not sent yet", []string{"attach expiry=60", "message t x qos=1"}},
		{"QoS 2 to client, id 1 sent", []string{"attach expiry=60", "message t x qos=2", "next", "confirm seq=1", "next"}},
		{"QoS 2 to client, id 1 reserved, not durable", []string{"attach expiry=60", "message t x qos=2", "next"}},
		{"QoS 2 to client, id 1 after PUBREC", []string{"attach expiry=60", "message t x qos=2", "next", "confirm seq=1", "next", "pubrec id=1"}},
		{"QoS 1 from client, id 1 not answered", []string{"attach expiry=60", "publish t qos=1 id=1"}},
		{"QoS 2 from client, id 1 not answered", []string{"attach expiry=60", "publish t qos=2 id=1"}},
		{"QoS 2 from client, id 1 answered", []string{"attach expiry=60", "publish t qos=2 id=1", "answer qos=2 id=1"}},
		{"QoS 2 from client, id 1 of an earlier connection", []string{"attach expiry=60", "publish t qos=2 id=1", "answer qos=2 id=1", "detach", "attach expiry=60"}},
		{"our Receive Maximum used up", []string{"attach expiry=60", "publish t qos=1 id=7", "publish t qos=1 id=8", "publish t qos=2 id=9"}},
		{"alias 1 set", []string{"attach", "publish a/b alias=1"}},
		{"after DISCONNECT", []string{"attach expiry=60", "disconnect"}},
		{"after an error", []string{"attach expiry=60", "pingresp"}},
	}
	packets := []string{
		"connect", "connack", "publish t", "publish t qos=1 id=1", "publish t qos=2 id=1", "publish t sub=1",
		"publish t alias=2", "publish t alias=3", "publish alias=1",
		"puback id=1", "puback id=1 code=0x87", "pubrec id=1", "pubrec id=1 code=0x87", "pubrel id=1", "pubcomp id=1",
		"subscribe t", "subscribe $share/g/t nolocal=1", "suback", "unsubscribe t", "unsuback", "pingreq", "pingresp",
		"disconnect", "disconnect code=4", "disconnect expiry=0", "disconnect expiry=90", "auth code=0x19",
	}
	var out bytes.Buffer
	for _, state := range states {
		fmt.Fprintf(&out, "## %s\n", state.name)
		for _, p := range packets {
			st := newStage()
			for _, s := range state.steps {
				st.step(t, strings.Fields(s))
			}
			st.lines = nil
			st.step(t, strings.Fields(p))
			result := "-"
			if len(st.lines) > 0 {
				for i := range st.lines {
					st.lines[i] = strings.TrimSpace(st.lines[i])
				}
				result = strings.Join(st.lines, "; ")
			}
			fmt.Fprintf(&out, "%-32s %s\n", p, result)
		}
		fmt.Fprintln(&out)
	}
	const file = "testdata/matrix.golden"
	if *rewrite {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Error(difference(want, out.Bytes()))
	}
}
