package broker

import (
	"context"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
)

// signing is an identity whose messages the broker signs.
type signing struct{ Identity }

func (s signing) Sign(clientID string) string { return s.Name() + " by " + clientID }

// TestSignature: what goes out says who has published it, once, in wills too; what a
// client says of itself is taken off, also when its messages are not signed.
func TestSignature(t *testing.T) {
	people := door{"ann": trusted("ann"), "bo": trusted("bo")}
	b := start(t, Options{Authority: authorityFunc2(func(ctx context.Context, c Credentials) (Identity, error) {
		id, err := people.Authenticate(ctx, c)
		if err == nil && id.Name() == "ann" {
			id = signing{id}
		}
		return id, err
	})})
	sub := join(t, b, as("bo", clean("sub")))
	sub.subscribe(0, "t", "will")
	for name, want := range map[string]string{"ann": "ann by x", "bo": ""} {
		forged := func() []mqtt.UserProperty {
			return []mqtt.UserProperty{{Key: SignatureProperty, Value: "ann by x"}, {Key: "k", Value: "v"}, {Key: SignatureProperty, Value: "root by x"}}
		}
		c := as(name, withWill(clean("x"), 0))
		c.Will.User = forged()
		p := join(t, b, c)
		m := &mqtt.Publish{Topic: []byte("t")}
		for _, u := range forged() {
			m.User = append(m.User, mqtt.BorrowedProperty{Key: []byte(u.Key), Value: []byte(u.Value)})
		}
		p.send(m)
		check := func(topic string) {
			t.Helper()
			got, ok := sub.must().(*mqtt.Publish)
			if !ok || string(got.Topic) != topic {
				t.Fatalf("%s: %v", name, got)
			}
			signed := ""
			for _, u := range got.User {
				if string(u.Key) == SignatureProperty {
					signed += string(u.Value)
				}
			}
			if signed != want || string(got.User[0].Key) != "k" {
				t.Errorf("%s: %s is signed %q; %q", name, topic, signed, got.User)
			}
		}
		check("t")
		_ = p.nc.Close()
		check("will")
	}
}
