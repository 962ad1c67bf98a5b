package fleet

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"

	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// What is kept of a device's secret is a version byte, the HMAC-SHA-256 of
// address and secret under the server's key, and the secret in the form that
// Mosquitto's password file wants ($7$, PBKDF2). Stored; never change.
//
// Secrets are 256 random bits, so that no slow hash is needed: argon2 for each of
// ten thousand devices that reconnect at once would be a denial of service of
// our own making. Mosquitto cannot check our HMAC and nobody has the secret later,
// so its form is made here, while the secret is known. It weakens nothing: who
// steals the store would have to guess 256 bits either way.
const (
	secretVersion = 1
	macSize       = sha256.Size
)

// newSecret makes 32 random bytes as base64url, 43 characters.
func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// mac is the keyed hash of a secret: bound to what it is for and to whom, so that
// one row's hash is of no use in another.
func (f *Fleet) mac(purpose, owner string, secret []byte) []byte {
	h := hmac.New(sha256.New, f.key)
	fmt.Fprintf(h, "%s\x00%s\x00", purpose, owner)
	h.Write(secret)
	return h.Sum(nil)
}

// seal is what is kept of a device's secret.
func (f *Fleet) seal(a wire.Address, secret string) []byte {
	sealed := append([]byte{secretVersion}, f.mac("device", a.String(), []byte(secret))...)
	return append(sealed, MosquittoHash(secret)...)
}

// noSecret stands in for the hash of a device that is not there, so that looking
// takes the same time. Nothing hashes to it, as it is no output of HMAC for a key
// that anybody could choose.
var noSecret = make([]byte, macSize)

// opens says whether secret is that of the device; exists is false for a device
// that is not there, whose hash is computed all the same.
func (f *Fleet) opens(a wire.Address, d *store.Device, exists bool, secret []byte) bool {
	kept := noSecret
	whole := len(d.Secret) >= 1+macSize && d.Secret[0] == secretVersion
	if whole {
		kept = d.Secret[1 : 1+macSize]
	}
	same := hmac.Equal(f.mac("device", a.String(), secret), kept)
	return same && whole && exists
}

// mosquittoRounds is Mosquitto's own default.
const mosquittoRounds = 101

// MosquittoHash is secret as Mosquitto's password file has it:
// $7$rounds$salt$PBKDF2-SHA-512, with a fresh salt.
func MosquittoHash(secret string) string {
	salt := make([]byte, 12)
	rand.Read(salt)
	key, err := pbkdf2.Key(sha512.New, secret, salt, mosquittoRounds, sha512.Size)
	if err != nil {
		// Only for parameters that FIPS mode forbids; these are constants.
		panic(fmt.Sprintf("fleet: PBKDF2: %v", err))
	}
	b64 := base64.StdEncoding
	return fmt.Sprintf("$7$%d$%s$%s", mosquittoRounds, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// MosquittoSecret is the line of a device for Mosquitto's password file, without
// its user name; ok is false when the device has no secret.
func MosquittoSecret(d *store.Device) (hash string, ok bool) {
	if len(d.Secret) <= 1+macSize || d.Secret[0] != secretVersion {
		return "", false
	}
	return string(d.Secret[1+macSize:]), true
}
