package app

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/mqtt"
)

// users is the authority of a lone broker: those that the command line names,
// who may do everything, and those of the users file, who may do what it says.
// Nobody may anything on topics that begin with "$". It is safe for concurrent
// use, also while the file is read anew. For the users beside a server's devices see
// authorities.
type users struct {
	named map[string]*user
	file  string // "" for none
	certs bool   // there is a listener that asks for certificates
	own   spaces // of the server; nil: a lone broker

	inForce atomic.Pointer[directory]
	hashing chan struct{} // bounds how many passwords are hashed at once
	// cut ends the connections of a user; set before the file is watched.
	cut func(name string)
}

// directory is one state of the users.
type directory struct {
	users map[string]*user
	decoy fleet.Hash // what the password of somebody unknown is held against
}

// user is one of them. But for what it remembers, it does not change.
type user struct {
	hash               *fleet.Hash      // nil: a certificate alone lets it in
	publish, subscribe []string         // filters
	overflow           *broker.Overflow // nil: that of the listener

	// opened is the quick keyed hash of a password that was found right by the slow
	// one, which is made to be slow for who steals the file, and would be most of
	// what a connection costs. It is in memory only, under a key of this process.
	opened atomic.Pointer[[sha256.Size]byte]
}

var quickKey = func() (key [sha256.Size]byte) {
	rand.Read(key[:]) // never fails
	return key
}()

// quick is a password's hash of this process.
func quick(password []byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, quickKey[:])
	h.Write(password)
	h.Sum(sum[:0])
	return sum
}

// remembers tells whether the password is the one that was right before. No is no
// answer: then it is hashed.
func (x *user) remembers(sum *[sha256.Size]byte) bool {
	known := x.opened.Load()
	return known != nil && hmac.Equal(known[:], sum[:])
}

// everything is all topics but those that begin with "$".
var everything = []string{"#"}

func newUsers(passwords map[string]string, file string, certs bool, own spaces) (*users, *watched, error) {
	u := &users{named: map[string]*user{}, file: file, certs: certs, own: own, hashing: make(chan struct{}, runtime.GOMAXPROCS(0)), cut: func(string) {}}
	for name, password := range passwords {
		hash, err := fleet.ParseHash(fleet.MosquittoHash(password))
		if err != nil {
			return nil, nil, err
		}
		u.named[name] = &user{hash: &hash, publish: everything, subscribe: everything}
	}
	w := &watched{what: "the users file", load: u.load}
	if file != "" {
		w.files = []string{file}
	}
	if _, err := w.look(true); err != nil {
		field := "users"
		if own != nil {
			field = "mqtt.users"
		}
		return nil, nil, fault.Field(field, "%v", err)
	}
	return u, w, nil
}

// besideDevices is the end of the names that users of a server's broker have there. No
// device, person or token has such a name, so that none of them has the sessions of a
// user who is called the same. Stored; never change.
const besideDevices = "@mqtt.users"

// called is the name that a user has at the broker.
func (u *users) called(name string) string {
	if u.own == nil {
		return name
	}
	return name + besideDevices
}

// load puts the users file in force. Who is not in it any more, or has another
// secret, loses the connection. Sessions stay: a file that was written by half
// costs nobody the queue, and a name is the same user when it comes back.
func (u *users) load() error {
	now := &directory{users: maps.Clone(u.named)}
	if u.file != "" {
		list, err := readUsers(u.file, u.certs, u.own)
		if err != nil {
			return err
		}
		maps.Copy(now.users, list)
	}
	rounds := 0
	for _, x := range now.users {
		if x.hash != nil {
			rounds = max(rounds, x.hash.Rounds())
		}
	}
	now.decoy = fleet.NewDecoy(rounds)
	was := u.inForce.Swap(now)
	if was == nil {
		return nil
	}
	for name, x := range was.users {
		if y := now.users[name]; y == nil || !x.sameLogin(y) {
			u.cut(u.called(name)) // nobody, when it is a device: that keeps its connection, and the rights of its own
		}
	}
	return nil
}

func (x *user) sameLogin(y *user) bool {
	if x.hash == nil || y.hash == nil {
		return x.hash == y.hash
	}
	return x.hash.Equal(*y.hash)
}

// Authenticate implements broker.Authority. An unknown name costs the same work
// as a wrong password. Where the listener has verified a certificate, the user is
// the one that it names.
func (u *users) Authenticate(ctx context.Context, c broker.Credentials) (broker.Identity, error) {
	name, cert := c.Username, c.Certificate()
	if cert != nil {
		var err error
		if name, err = fleet.CertificateName(cert); err != nil || c.Username != "" && c.Username != name {
			return nil, &mqtt.Error{Code: mqtt.NotAuthorized, Text: "the certificate is another's"}
		}
	}
	d := u.inForce.Load()
	x := d.users[name]
	if x != nil && x.hash == nil && cert != nil && !c.HasPassword {
		return u.identity(name, x), nil
	}
	hash := d.decoy
	sum := quick(c.Password)
	if x != nil && x.hash != nil {
		if c.HasPassword && x.remembers(&sum) {
			return u.identity(name, x), nil
		}
		hash = *x.hash
	}
	select {
	case u.hashing <- struct{}{}:
	case <-ctx.Done():
		return nil, &mqtt.Error{Code: mqtt.ServerBusy, Text: "too many logins at once"}
	}
	same := hash.Opens(c.Password)
	<-u.hashing
	if !same || x == nil || x.hash == nil || !c.HasPassword {
		return nil, &mqtt.Error{Code: mqtt.BadUserNameOrPassword, Text: "user name or password is wrong"}
	}
	x.opened.Store(&sum)
	return u.identity(name, x), nil
}

// Identify implements broker.Directory. A server gives the name without its end.
func (u *users) Identify(name string) (broker.Identity, bool) {
	x := u.listed(name)
	if x == nil {
		return nil, false
	}
	return u.identity(name, x), true
}

func (u *users) identity(name string, x *user) broker.Identity {
	i := identity{u, name}
	if x.overflow == nil {
		return i
	}
	return choosy{i, *x.overflow}
}

// choosy is a user with an overflow policy of its own.
type choosy struct {
	identity
	overflow broker.Overflow
}

// Overflow implements broker.Overflowing.
func (i choosy) Overflow() broker.Overflow { return i.overflow }

// identity is a user that has logged in. Its rights are those that the users
// file gives it at the moment of asking.
type identity struct {
	users *users
	name  string
}

func (i identity) Name() string                 { return i.users.called(i.name) }
func (i identity) MayPublish(topic string) bool { return i.users.listed(i.name).mayPublish(topic) }
func (i identity) MayReceive(topic string) bool { return i.users.listed(i.name).mayReceive(topic) }
func (i identity) MaySubscribe(filter string) bool {
	return i.users.listed(i.name).maySubscribe(filter)
}

// listed is what the file says of somebody now; nil, who may nothing, if nothing.
func (u *users) listed(name string) *user { return u.inForce.Load().users[name] }

func (x *user) mayPublish(topic string) bool {
	return x != nil && topic[0] != '$' && matches(x.publish, topic)
}

func (x *user) mayReceive(topic string) bool {
	return x != nil && topic[0] != '$' && matches(x.subscribe, topic)
}

// maySubscribe says whether one of the user's filters covers all that filter can
// match.
func (x *user) maySubscribe(filter string) bool {
	if x == nil {
		return false
	}
	for _, f := range x.subscribe {
		if covers(f, filter) {
			return true
		}
	}
	return false
}

func matches(filters []string, topic string) bool {
	for _, f := range filters {
		if mqtt.Match(f, topic) {
			return true
		}
	}
	return false
}

// covers says whether every topic that b matches is matched by a, both valid
// filters.
func covers(a, b string) bool {
	if b[0] == '$' && a[0] != '$' { // [MQTT-4.7.2-1]
		return false
	}
	whole := b
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		switch {
		case x == "#":
			return true
		case y == "#":
			// What +/# lacks of # is what stands before it, and the empty topic is none.
			return x == "+" && restA == "#" && (whole == "#" || whole == "/#")
		case x != "+" && x != y:
			return false
		case !moreA || !moreB:
			// a/# matches a itself.
			return moreA == moreB || moreA && restA == "#"
		}
		a, b = restA, restB
	}
}
