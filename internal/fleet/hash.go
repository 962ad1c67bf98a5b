package fleet

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

// Hash is a secret in the form that Mosquitto's password file has:
// $7$rounds$salt$PBKDF2-SHA-512. It does not change.
type Hash struct {
	rounds    int
	salt, key []byte
}

// maxRounds bounds what one login can cost to a fraction of a second.
const maxRounds = 1_000_000

// NewSecret makes a random secret, and what is kept of it.
func NewSecret() (secret, hash string) {
	secret = newSecret()
	return secret, MosquittoHash(secret)
}

// ParseHash reads a hash as MosquittoHash and mosquitto_passwd write it.
func ParseHash(s string) (Hash, error) {
	wrong := errors.New("is not a hash like $7$101$salt$key; wilco broker secret and mosquitto_passwd make them")
	rest, ok := strings.CutPrefix(s, "$7$")
	parts := strings.Split(rest, "$")
	if !ok || len(parts) != 3 {
		return Hash{}, wrong
	}
	rounds, err := strconv.Atoi(parts[0])
	salt, err2 := base64.StdEncoding.DecodeString(parts[1])
	key, err3 := base64.StdEncoding.DecodeString(parts[2])
	if errors.Join(err, err2, err3) != nil || rounds < 1 || rounds > maxRounds || len(salt) == 0 || len(key) != sha512.Size {
		return Hash{}, wrong
	}
	return Hash{rounds, salt, key}, nil
}

// NewDecoy is a hash that nothing opens, of so many rounds, 0 for the usual
// number: for those who are not there, so that looking takes the same time.
func NewDecoy(rounds int) Hash {
	if rounds == 0 {
		rounds = mosquittoRounds
	}
	h := Hash{rounds, make([]byte, 12), make([]byte, sha512.Size)}
	rand.Read(h.key)
	return h
}

// Rounds is what opening it costs.
func (h Hash) Rounds() int { return h.rounds }

// Equal says whether two hashes are of one secret and one making.
func (h Hash) Equal(o Hash) bool {
	return h.rounds == o.rounds && string(h.salt) == string(o.salt) && hmac.Equal(h.key, o.key)
}

// Opens says whether the hash is that of secret. It computes for some time.
func (h Hash) Opens(secret []byte) bool {
	key, err := pbkdf2.Key(sha512.New, string(secret), h.salt, h.rounds, len(h.key))
	return err == nil && hmac.Equal(key, h.key)
}
