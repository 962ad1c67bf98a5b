package store_test

import (
	"testing"

	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/broker/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) (store.Store, func() store.Store) {
		m := store.NewMemory()
		return m, func() store.Store { return m }
	})
}
