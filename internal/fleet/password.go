package fleet

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/wilco-iot/wilco/internal/fault"
)

// People choose their passwords, so what is kept of one is made to be slow to
// guess: argon2id, in the PHC form with its parameters, so that those of later
// versions can differ. Stored; never change the form.
//
//	$argon2id$v=19$m=65536,t=3,p=4$salt$key
type cost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// costOfPasswords is the second recommendation of RFC 9106, section 4, but for the
// threads: four on two cores are ahead of everything else that the server has to do, and
// one costs who guesses as much.
var costOfPasswords = cost{memory: 64 << 10, passes: 3, threads: 1}

// Bounds of a password, in bytes.
const (
	minPassword = 8
	maxPassword = 1024
)

const (
	saltSize = 16
	keySize  = 32
)

func checkPassword(text string) error {
	if len(text) < minPassword || len(text) > maxPassword {
		return fault.Field("password", "must have %d to %d bytes", minPassword, maxPassword)
	}
	return nil
}

// hashPassword is what is kept of a password.
func (c cost) hashPassword(text string) string {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	key := argon2.IDKey([]byte(text), salt, c.passes, c.memory, c.threads, keySize)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.threads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// passwordOpens says whether a kept hash is of the password; what is no hash is of
// none. It computes for a tenth of a second.
func passwordOpens(kept, text string) bool {
	parts := strings.Split(kept, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return false
	}
	var version int
	var c cost
	_, err1 := fmt.Sscanf(parts[2], "v=%d", &version)
	_, err2 := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.threads)
	salt, err3 := base64.RawStdEncoding.DecodeString(parts[4])
	key, err4 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || version != argon2.Version || len(key) != keySize || c.passes == 0 || c.threads == 0 {
		return false
	}
	return hmac.Equal(argon2.IDKey([]byte(text), salt, c.passes, c.memory, c.threads, keySize), key)
}

// Bounds of hashing. One at a time leaves the server its other cores and takes 64 MiB;
// those who wait get their turn within some seconds.
const (
	maxHashes  = 1
	maxWaiting = 64
)

// hashing takes a place among those who hash, in turn. Errors: TooMany when too many
// wait, or ctx ends before.
func (f *Fleet) hashing(ctx context.Context) (done func(), err error) {
	select {
	case f.waiting <- struct{}{}:
		defer func() { <-f.waiting }()
	default:
		return nil, errBusy
	}
	select {
	case f.hashes <- struct{}{}:
		return func() { <-f.hashes }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

var errBusy = fault.New(fault.TooMany, "too many logins at once; try again later")
