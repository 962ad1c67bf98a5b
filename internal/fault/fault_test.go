package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestEveryCodeHasAMeaningAtEveryBoundary(t *testing.T) {
	exits := map[int]bool{}
	for _, c := range Codes() {
		m := c.Of()
		if m.HTTP < 200 || m.HTTP > 599 || m.MQTT < 0x80 || m.Exit < 1 || m.Exit > 125 || m.Public == "" || m.Cure == "" {
			t.Errorf("%s: incomplete meaning %+v", c, m)
		}
		exits[m.Exit] = true
	}
	if len(exits) < 10 {
		t.Errorf("only %d exit codes: scripts could not tell the ends apart", len(exits))
	}
}

func TestUnknownMeansInternalAndHidden(t *testing.T) {
	e := From(errors.New("password of the database is hunter2"))
	if e.Code != Internal || strings.Contains(e.Public(), "hunter2") {
		t.Fatalf("got %q %q", e.Code, e.Public())
	}
	if !strings.Contains(e.Error(), "hunter2") {
		t.Fatal("the log must have the cause")
	}
	if Code("nonsense").Of() != Internal.Of() {
		t.Fatal("an unknown code must mean internal")
	}
}

func TestMatchByCode(t *testing.T) {
	err := fmt.Errorf("load: %w", Wrap(errors.New("no rows"), NotFound, "no command %s", "x"))
	if !errors.Is(err, &Error{Code: NotFound}) || errors.Is(err, &Error{Code: Conflict}) {
		t.Fatal("errors.Is must match by code")
	}
	if CodeOf(err) != NotFound || CodeOf(nil) != "" || From(nil) != nil || Wrap(nil, Invalid, "x") != nil {
		t.Fatal("codes lost")
	}
	if e := Field("params", "too deep"); e.Field != "params" || e.Code != Invalid || !strings.Contains(e.Error(), "params: too deep") {
		t.Fatalf("field error: %v", e)
	}
}
