package uplink

import (
	"errors"
	"fmt"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// What will never be taken must not stay in front of what would be.
func TestWhatIsNeverTaken(t *testing.T) {
	for err, want := range map[error]bool{
		client.ErrSize: true, client.ErrExpired: true, client.ErrQoS: true, client.ErrRetain: true,
		fmt.Errorf("publish: %w", client.ErrSize):                              true,
		&client.ReasonError{Packet: mqtt.TypePuback, Code: mqtt.NotAuthorized}: true,
		&client.ReasonError{Packet: mqtt.TypePuback, Code: mqtt.QuotaExceeded}: false,
		&client.ReasonError{Packet: mqtt.TypePuback, Code: mqtt.ServerBusy}:    false,
		client.ErrDown: false, client.ErrFull: false, errors.New("other"): false,
	} {
		if got := NeverTaken(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
