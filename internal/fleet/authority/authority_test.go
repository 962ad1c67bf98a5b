package authority_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/fleet/authority"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/wire"
)

func TestAuthority(t *testing.T) {
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "wilco.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	f := fleet.New(fleet.Options{Store: db, Profiles: []wire.Profile{wire.NewWilco("")}})
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, secret, err := f.Add(t.Context(), fleet.NewDevice{Address: wire.Address{Group: "g", Device: "d"}})
	if err != nil {
		t.Fatal(err)
	}
	a := authority.New(f)
	for _, c := range []struct {
		user, secret, id string
		want             mqtt.ReasonCode
	}{
		{"g/d", secret, "g/d", mqtt.Success},
		{"g/d", "x", "g/d", mqtt.BadUserNameOrPassword},
		{"g/e", secret, "g/e", mqtt.BadUserNameOrPassword},
		{"", "", "", mqtt.BadUserNameOrPassword},
		{"g/d", secret, "", mqtt.ClientIdentifierNotValid},
		{"g/none", secret, "g/d", mqtt.ClientIdentifierNotValid},
	} {
		i, err := a.Authenticate(t.Context(), broker.Credentials{Username: c.user, HasPassword: true, Password: []byte(c.secret), ClientID: c.id})
		var e *mqtt.Error
		switch {
		case c.want == mqtt.Success:
			if err != nil || i.Name() != "g/d" || !i.MayPublish("wilco/g/d/ack") {
				t.Errorf("%+v: %v", c, err)
			}
		case !errors.As(err, &e) || e.Code != c.want || i != nil:
			t.Errorf("%+v: %v, %v", c, i, err)
		}
	}
	if i, ok := a.Identify("g/d"); !ok || i.Name() != "g/d" {
		t.Error("the device was not found")
	}
	if i, ok := a.Identify("g/e"); ok || i != nil {
		t.Error("found somebody who is not there")
	}
}
