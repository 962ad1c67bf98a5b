package edgelink

import (
	"strings"

	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/wire"
)

// root stands before the topics between engine and Link, which are never published:
// the topics of no other profile begin with a dollar.
const root = "$edge/"

var documents = wire.NewWilco("").(wire.StateProfile)

// profile is the wilco profile below root, which nobody subscribes to.
type profile struct{}

// Profile is the language between the engine and this package.
func Profile() wire.Profile { return profile{} }

func (profile) Name() string                { return fleet.SparkplugProfile }
func (profile) ReportsPresence() bool       { return true }
func (profile) Filters() []string           { return nil }
func (profile) Topic(a wire.Address) string { return root + documents.Topic(a) }

func (profile) AppendCommand(dst []byte, c wire.Command) ([]byte, error) {
	return documents.AppendCommand(dst, c)
}

func (profile) ParseUp(topic string, payload []byte) (wire.Up, error) {
	rest, ok := strings.CutPrefix(topic, root)
	if !ok {
		return wire.Up{}, wire.ErrNotUp
	}
	return documents.ParseUp(rest, payload)
}

// Ours tells whether a publication of the engine is for a Link.
func Ours(p *engine.Publication) bool { return strings.HasPrefix(p.Topic, root) }
