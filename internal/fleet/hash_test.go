package fleet

import (
	"strings"
	"testing"
)

func TestHash(t *testing.T) {
	secret, text := NewSecret()
	h, err := ParseHash(text)
	if err != nil || !h.Opens([]byte(secret)) || h.Opens([]byte(secret+"x")) || h.Opens(nil) || h.Opens([]byte(text)) {
		t.Errorf("%v %v", h, err)
	}
	again, _ := ParseHash(MosquittoHash(secret))
	if h.Equal(again) || !h.Equal(h) {
		t.Error("two makings of a hash are one")
	}
	// As mosquitto_passwd of Mosquitto 2 writes it.
	theirs, err := ParseHash("$7$101$YWr+rNaFyfLZrFX4$5eofX0QTI3DyqAQ10EGrS+QUCocB11+Tz81d2qQMvxuVcLY9r75qK8y13whBi0FMJL5lV52qStTdw6xVbcJZUg==")
	if err != nil || !theirs.Opens([]byte("wilco")) {
		t.Error("a hash of mosquitto_passwd does not open", err)
	}
	for _, bad := range []string{"", "x", "$6$a$b", "$7$", "$7$101", "$7$101$AAAA", "$7$0$AAAA$" + strings.Repeat("A", 86) + "==",
		"$7$-1$AAAA$" + strings.Repeat("A", 86) + "==", "$7$101$$" + strings.Repeat("A", 86) + "==", text + "$", text[:len(text)-8], "$7$101$A$A"} {
		if _, err := ParseHash(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	decoy := NewDecoy(7)
	if decoy.Rounds() != 7 || NewDecoy(0).Rounds() != mosquittoRounds || decoy.Opens(nil) {
		t.Error("the decoy opens, or costs something else")
	}
}
