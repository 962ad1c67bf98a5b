package app

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
)

// users is the authority of a lone broker: names and passwords, and every right
// but on topics that begin with "$".
type users map[string]string

// Authenticate implements broker.Authority. An unknown name costs the same work
// as a wrong password.
func (u users) Authenticate(_ context.Context, c broker.Credentials) (broker.Identity, error) {
	want, known := u[c.Username]
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256(c.Password)
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 || !known || !c.HasPassword {
		return nil, &mqtt.Error{Code: mqtt.BadUserNameOrPassword, Text: "user name or password is wrong"}
	}
	return user(c.Username), nil
}

// Identify implements broker.Directory.
func (u users) Identify(name string) (broker.Identity, bool) {
	_, known := u[name]
	return user(name), known
}

type user string

func (u user) Name() string                  { return string(u) }
func (user) MayPublish(topic string) bool    { return !strings.HasPrefix(topic, "$") }
func (user) MaySubscribe(filter string) bool { return !strings.HasPrefix(filter, "$") }
func (user) MayReceive(topic string) bool    { return !strings.HasPrefix(topic, "$") }
