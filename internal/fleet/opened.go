package fleet

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
)

// opened remembers, until the server stops, which password has opened whose hash, so
// that a program that connects again and again by a user's password costs one slow hash
// and not one each time. What is remembered is a keyed hash, and the key is nowhere but
// in this memory, as is every session's text that comes by. The zero value is ready, and
// safe for concurrent use.
//
// It answers as fast to a wrong password as to a right one, so who asks must have been
// counted among the attempts before.
type opened struct {
	mu   sync.Mutex
	key  []byte
	macs map[string][]byte // by the user's name
}

// mac is of the password and of the hash that it opens, so that another password of the
// user makes it void. The lock is held.
func (o *opened) mac(u *User, password string) []byte {
	if o.key == nil {
		o.key, o.macs = make([]byte, sha256.Size), map[string][]byte{}
		rand.Read(o.key)
	}
	h := hmac.New(sha256.New, o.key)
	h.Write([]byte(u.Password + "\x00" + password)) // a hash has no such byte
	return h.Sum(nil)
}

// before says whether the password has opened the user's present hash before.
func (o *opened) before(u *User, password string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return hmac.Equal(o.mac(u, password), o.macs[u.Name])
}

func (o *opened) note(u *User, password string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.macs[u.Name] = o.mac(u, password)
}

func (o *opened) forget(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.macs, name)
}
