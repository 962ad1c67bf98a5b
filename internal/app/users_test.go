package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/mqtt"
)

func TestParseUsers(t *testing.T) {
	_, hash := fleet.NewSecret()
	good := "users:\n  - name: a\n    secret: " + hash + "\n    publish: [x/+]\n    subscribe: ['x/#', y]\n"
	list, err := parseUsers([]byte(good), false, nil)
	if a := list["a"]; err != nil || len(list) != 1 || a.hash == nil || len(a.publish) != 1 || len(a.subscribe) != 2 {
		t.Errorf("%+v %v", list, err)
	}
	if list, err = parseUsers([]byte("users:\n  - name: g/d\n"), true, nil); err != nil || list["g/d"].hash != nil {
		t.Errorf("%+v %v", list, err)
	}
	for name, c := range map[string]struct{ text, says string }{
		"empty":                 {"", "no users"},
		"a comment":             {"# nobody\n", "no users"},
		"an empty list":         {"users: []\n", "no users"},
		"unknown key":           {good + "    deny: [x]\n", "deny"},
		"unknown key above":     {good + "anonymous: true\n", "anonymous"},
		"a second document":     {good + "---\n" + good, "after"},
		"no name":               {"users:\n  - secret: " + hash + "\n", "no name"},
		"the broker's own name": {"users:\n  - name: $system\n    secret: " + hash + "\n", "$"},
		"twice":                 {good + strings.TrimPrefix(good, "users:\n"), "twice"},
		"a password":            {"users:\n  - name: a\n    secret: hunter2\n", "not a hash"},
		"no secret":             {"users:\n  - name: a\n", "no secret"},
		"cut in the secret":     {good[:len("users:\n  - name: a\n    secret: ")+30], "not a hash"},
		"a filter that is none": {"users:\n  - name: a\n    secret: " + hash + "\n    subscribe: ['a#']\n", "a#"},
		"a policy of no name":   {"users:\n  - name: a\n    secret: " + hash + "\n    overflow: youngest\n", "youngest"},
		"internal topics":       {"users:\n  - name: a\n    secret: " + hash + "\n    publish: ['$SYS/x']\n", "$SYS"},
		"too many rounds":       {"users:\n  - name: a\n    secret: " + strings.Replace(hash, "$101$", "$1000001$", 1) + "\n", "not a hash"},
	} {
		if _, err := parseUsers([]byte(c.text), false, nil); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v does not say %q", name, err, c.says)
		}
	}
}

// TestCovers holds covers to what it means, over all topics of a small world.
func TestCovers(t *testing.T) {
	words := []string{"", "a", "b", "$c"}
	var topics []string
	for _, x := range words {
		if x != "" {
			topics = append(topics, x)
		}
		for _, y := range words {
			topics = append(topics, x+"/"+y)
			for _, z := range words {
				topics = append(topics, x+"/"+y+"/"+z)
			}
		}
	}
	filter := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "$c", "+", "+"}), 1, 3).Draw(t, "levels")
		if rapid.Bool().Draw(t, "hash") {
			levels[len(levels)-1] = "#"
		}
		f := strings.Join(levels, "/")
		if f == "" {
			return "a"
		}
		return f
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := filter.Draw(t, "a"), filter.Draw(t, "b")
		want := true
		for _, topic := range topics {
			if mqtt.Match(b, topic) && !mqtt.Match(a, topic) {
				want = false
			}
		}
		// Deeper topics than those of the small world tell a/# from what has an end.
		if want && strings.HasSuffix(b, "#") && !strings.HasSuffix(a, "#") {
			want = false
		}
		if got := covers(a, b); got != want {
			t.Fatalf("covers(%q, %q) is %v", a, b, got)
		}
	})
}

func TestUsersAuthority(t *testing.T) {
	secret, hash := fleet.NewSecret()
	file := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "users:\n  - name: a\n    secret: %s\n    publish: [up/#]\n    subscribe: ['#']\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	u, _, err := newUsers(map[string]string{"root": "pass"}, file, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, password string
		has            bool
		want           mqtt.ReasonCode
	}{
		{"a", secret, true, mqtt.Success}, {"root", "pass", true, mqtt.Success},
		{"a", "pass", true, mqtt.BadUserNameOrPassword}, {"a", "", false, mqtt.BadUserNameOrPassword}, {"a", hash, true, mqtt.BadUserNameOrPassword},
		{"b", secret, true, mqtt.BadUserNameOrPassword}, {"", "", false, mqtt.BadUserNameOrPassword}, {"", "", true, mqtt.BadUserNameOrPassword},
	} {
		i, err := u.Authenticate(t.Context(), broker.Credentials{ClientID: "x", Username: c.name, HasPassword: c.has, Password: []byte(c.password)})
		var e *mqtt.Error
		if c.want == mqtt.Success && (err != nil || i.Name() != c.name) || c.want != mqtt.Success && (!errors.As(err, &e) || e.Code != c.want) {
			t.Errorf("%+v: %v %v", c, i, err)
		}
	}
	// A password that was right is known again without the slow hash, and no other.
	for range cap(u.hashing) {
		u.hashing <- struct{}{}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for password, want := range map[string]mqtt.ReasonCode{secret: mqtt.Success, "wrong": mqtt.ServerBusy, "": mqtt.ServerBusy} {
		_, err := u.Authenticate(ended, broker.Credentials{Username: "a", HasPassword: true, Password: []byte(password)})
		var e *mqtt.Error
		if got := errors.As(err, &e); got != (want != mqtt.Success) || got && e.Code != want {
			t.Errorf("password %q while all hash: %v", password, err)
		}
	}
	if _, err := u.Authenticate(ended, broker.Credentials{Username: "root", HasPassword: true, Password: []byte(secret)}); err == nil {
		t.Error("the password of one user lets in another")
	}
	a, _ := u.Identify("a")
	if !a.MayPublish("up/x") || a.MayPublish("x") || a.MayPublish("$SYS/x") || !a.MayReceive("x") || a.MayReceive("$SYS/x") ||
		!a.MaySubscribe("#") || a.MaySubscribe("$SYS/#") {
		t.Error("the rights are not those of the file")
	}
	if i, ok := u.Identify("nobody"); ok || i != nil {
		t.Error("found somebody who is not there")
	}
}

// TestE09_UsersFile: whatever happens to the file, the rights are those of the
// last one that could be used, and what is taken away is gone at once.
// Shows [B10f].
func TestE09_UsersFile(t *testing.T) {
	secret, hash := fleet.NewSecret()
	_, otherHash := fleet.NewSecret()
	file := filepath.Join(t.TempDir(), "users.yaml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(name, hash, publish string) string {
		return fmt.Sprintf("  - name: %s\n    secret: %s\n    publish: [%s]\n    subscribe: ['#']\n", name, hash, publish)
	}
	put("users:\n" + entry("a", hash, "t") + entry("b", hash, "t"))
	reload := make(chan os.Signal)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := RunBroker(ctx, BrokerOptions{TCP: "127.0.0.1:0", UsersFile: file}, reload, w, quiet())
		w.Close()
		done <- err
	}()
	address := listening(t, r, "tcp")
	again := func() { reload <- syscall.SIGHUP; reload <- syscall.SIGHUP } // the second is taken when the first is done with
	enter := func(id, user string) (talk, mqtt.ReasonCode) {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		k := talk{t, nc}
		return k, k.enter(id, user, secret)
	}
	may := func(k talk, want mqtt.ReasonCode) {
		t.Helper()
		k.say(&mqtt.Publish{Topic: []byte("t"), QoS: 1, PacketID: 1})
		first, body, err := k.hear()
		got := mqtt.Success
		if len(body) > 2 {
			got = mqtt.ReasonCode(body[2])
		}
		if err != nil || first != byte(mqtt.TypePuback)<<4 || got != want {
			t.Errorf("% x % x %v, want %s", first, body, err, want)
		}
	}
	a, code := enter("a", "a")
	b, code2 := enter("b", "b")
	if code != mqtt.Success || code2 != mqtt.Success {
		t.Fatal(code, code2)
	}
	may(a, mqtt.NoMatchingSubscribers)

	for _, bad := range []string{"", "\n", "users:\n", "users:\n" + entry("a", hash[:20], "t"), "users: [", "\x00"} {
		put(bad)
		again()
		may(a, mqtt.NoMatchingSubscribers)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	again()
	may(a, mqtt.NoMatchingSubscribers)

	put("users:\n" + entry("a", hash, "other") + entry("b", hash, "t")) // a right less
	again()
	may(a, mqtt.NotAuthorized)
	may(b, mqtt.NoMatchingSubscribers)

	put("users:\n" + entry("a", otherHash, "t")) // another secret; and b is gone
	again()
	for name, k := range map[string]talk{"a": a, "b": b} {
		if first, body, err := k.hear(); err != nil || !bytes.Equal([]byte{first, body[0]}, []byte{byte(mqtt.TypeDisconnect) << 4, byte(mqtt.NotAuthorized)}) {
			t.Errorf("%s: % x % x %v", name, first, body, err)
		}
		if _, code := enter(name, name); code != mqtt.BadUserNameOrPassword {
			t.Errorf("%s comes in again: %s", name, code)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Shows [B6c].
func TestOverflowOfUsers(t *testing.T) {
	secret, hash := fleet.NewSecret()
	file := filepath.Join(t.TempDir(), "users.yaml")
	text := fmt.Sprintf("users:\n  - name: a\n    secret: %s\n    overflow: oldest\n  - name: r\n    secret: %[1]s\n    overflow: refuse\n  - name: b\n    secret: %[1]s\n", hash)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	u, _, err := newUsers(nil, file, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"a": broker.DropOldest, "r": broker.Refuse, "b": nil} {
		i, err := u.Authenticate(t.Context(), broker.Credentials{Username: name, HasPassword: true, Password: []byte(secret)})
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if o, ok := i.(broker.Overflowing); ok {
			got = o.Overflow()
		}
		if got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
