package oidc

import (
	"errors"
	"net/http"
	"sync"
	"time"
)

// How often the issuer is asked for its keys: anybody can send tokens of keys that
// nobody has.
const (
	keysBurst = 5
	keysEvery = 10 * time.Second // once more
)

var errAskedTooOften = errors.New("oidc: the issuer was asked for its keys too often")

// keyAsker asks for keys, as often as it may.
type keyAsker struct {
	now func() time.Time

	mu   sync.Mutex
	full time.Time // when the bucket of those who asked will have drained
}

// RoundTrip implements http.RoundTripper.
func (k *keyAsker) RoundTrip(r *http.Request) (*http.Response, error) {
	if !k.take() {
		return nil, errAskedTooOften
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (k *keyAsker) take() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if k.full.Before(now) {
		k.full = now
	}
	if k.full.After(now.Add((keysBurst - 1) * keysEvery)) {
		return false
	}
	k.full = k.full.Add(keysEvery)
	return true
}
