package broker

import (
	"slices"

	"github.com/wilco-iot/wilco/mqtt"
)

// SignatureProperty is the name of the user property by which the broker tells who
// has published a message; see [Signer]. It is the broker's own: one that a client
// has sent is taken off, whoever it is.
const SignatureProperty = "wilco-publisher"

// Signer is what an Identity may implement besides: whatever it publishes, wills
// included, goes out with the user property SignatureProperty, once, and with the
// value that Sign gives. A receiver can believe it.
type Signer interface {
	// Sign is asked for each message, under the rules of Identity.
	Sign(clientID string) string
}

// sign puts the signature of the connection's identity, if it has one, onto p.
func (c *conn) sign(p *mqtt.Publish) {
	p.User = slices.DeleteFunc(p.User, func(u mqtt.BorrowedProperty) bool { return string(u.Key) == SignatureProperty })
	if s, ok := c.identity.(Signer); ok {
		p.User = append(p.User, mqtt.BorrowedProperty{Key: []byte(SignatureProperty), Value: []byte(s.Sign(c.info.ClientID))})
	}
}

// signWill does the same for a will, which may be nil: it is published when nobody
// is connected.
func (c *conn) signWill(w *mqtt.Will) {
	if w == nil {
		return
	}
	w.User = slices.DeleteFunc(w.User, func(u mqtt.UserProperty) bool { return u.Key == SignatureProperty })
	if s, ok := c.identity.(Signer); ok {
		w.User = append(w.User, mqtt.UserProperty{Key: SignatureProperty, Value: s.Sign(c.info.ClientID)})
	}
}
