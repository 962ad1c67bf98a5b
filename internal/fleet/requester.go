package fleet

import (
	"context"
	"errors"
	"strings"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire"
)

// Requester is a user or a token that has logged in at the built-in broker, to ask
// for commands over MQTT 5. It publishes where it may ask and receives what is
// answered; its rights are those of the moment of asking.
type Requester struct {
	fleet *Fleet
	name  string
	token string // id; "" for a user who came by the password
}

// ErrRequesterID refuses a client id that could be a device's.
var ErrRequesterID = errors.New("the client id must not have a slash, as those of devices have")

// LoginRequester lets in a user or the holder of a token: the user name is the
// user's or the token's, the password the user's or the whole token. Remote is the
// address that it comes from. Errors: ErrRequesterID; Unauthenticated; TooMany after
// too many failures. The first time it computes for a tenth of a second over a user's
// password.
func (f *Fleet) LoginRequester(ctx context.Context, username, password, clientID, remote string) (*Requester, error) {
	if strings.Contains(clientID, "/") {
		return nil, ErrRequesterID
	}
	if !IsToken(password) {
		u, err := f.CheckPassword(ctx, username, password, remote)
		if err != nil {
			return nil, err
		}
		return &Requester{fleet: f, name: u.Name}, nil
	}
	p, err := f.VerifyToken(ctx, password)
	if err != nil || p.Name != username {
		return nil, fault.New(fault.Unauthenticated, "user name or password is wrong")
	}
	return &Requester{fleet: f, name: p.Name, token: p.Token}, nil
}

// IdentifyRequester finds a user, or a token by its name.
func (f *Fleet) IdentifyRequester(name string) (*Requester, bool) {
	if u, ok := f.User(name); ok {
		return &Requester{fleet: f, name: name}, !u.Disabled
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	for id, t := range f.tokens {
		if t.User == "" && t.Name == name && !f.expired(&t) {
			return &Requester{fleet: f, name: name, token: id}, true
		}
	}
	return nil, false
}

// IsRequester says whether a user name is that of a requester, if it is anybody's:
// those of devices have a slash.
func IsRequester(username string) bool { return username != "" && !strings.Contains(username, "/") }

// Name is the user's or the token's.
func (r *Requester) Name() string { return r.name }

// Tenant keeps the names of shared subscriptions of one requester from others.
func (r *Requester) Tenant() string { return "requester " + r.name }

// Sign says who has published: by it, Signed finds the principal again.
func (r *Requester) Sign(clientID string) string {
	if r.token != "" {
		return "token " + r.token + " " + clientID
	}
	return "user " + r.name + " " + clientID
}

// Signed is who has published a message that the built-in broker has signed, with
// the rights of now, and by which client. Errors: Unauthenticated when the signature
// is none, or the user or the token is not in force any more.
func (f *Fleet) Signed(signature string) (p Principal, clientID string, err error) {
	kind, rest, _ := strings.Cut(signature, " ")
	name, clientID, ok := strings.Cut(rest, " ")
	if ok && kind == "token" {
		p, ok = f.Holder(name)
	} else {
		p, ok = f.byUser(name)
		ok = ok && kind == "user"
	}
	if !ok {
		return Principal{}, "", fault.New(fault.Unauthenticated, "the requester is not known any more")
	}
	return p, clientID, nil
}

func (f *Fleet) byUser(name string) (Principal, bool) {
	u, ok := f.User(name)
	return Principal{Name: u.Name, Grants: u.Grants}, ok && !u.Disabled
}

// Holder is who holds the token with the id, with the rights of now; ok is false when
// the token or its user is not in force any more. It does not block.
func (f *Fleet) Holder(id string) (p Principal, ok bool) {
	f.mu.RLock()
	t, ok := f.tokens[id]
	f.mu.RUnlock()
	if !ok || f.expired(&t) {
		return Principal{}, false
	}
	p, err := f.principal(&t)
	return p, err == nil
}

func (r *Requester) principal() (Principal, bool) {
	if r.token != "" {
		return r.fleet.Holder(r.token)
	}
	return r.fleet.byUser(r.name)
}

// MayPublish says whether the requester may ask for some command to the device of a
// request topic. For which is checked when the request has been read.
func (r *Requester) MayPublish(topic string) bool {
	a, ok := wire.ParseRequestTopic(r.fleet.opt.Root, topic)
	if !ok {
		return false
	}
	p, ok := r.principal()
	return ok && p.May(Operator, a.Group, "")
}

// MaySubscribe allows what is below the requester's own reply space.
func (r *Requester) MaySubscribe(filter string) bool { return r.MayReceive(filter) }

// MayReceive says whether an answer is for this requester.
func (r *Requester) MayReceive(topic string) bool {
	space := wire.ReplySpace(r.fleet.opt.Root, r.name)
	if len(topic) <= len(space) || !strings.HasPrefix(topic, space) {
		return false
	}
	_, ok := r.principal()
	return ok
}
