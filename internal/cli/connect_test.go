package cli

import "testing"

// TestTheTokenOfThisMachineStaysHere lists servers that may, and that must not,
// be sent the token in the data directory.
func TestTheTokenOfThisMachineStaysHere(t *testing.T) {
	for server, want := range map[string]bool{"http://127.0.0.1:8080": true, "http://localhost:1": true, "http://[::1]:80": true,
		"http://example.org": false, "http://10.0.0.1": false, "http://localhost.example.org": false,
		"http://127.0.0.1.example.org": false, "http://127.0.0.1@example.org": false, "": false} {
		if got := local(server); got != want {
			t.Errorf("%q is on this machine: %v, want %v", server, got, want)
		}
	}
}
