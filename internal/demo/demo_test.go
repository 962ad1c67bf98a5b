package demo

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"
)

func TestEveryCommandOfTheDemoEndsInAStateThatIsTrue(t *testing.T) {
	o := Options{For: 6 * time.Second, Devices: 40, Seed: 7,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.MarshalIndent(r, "", "  ")
	t.Logf("%s", text)
	if !r.Good() {
		t.Error("the auditor found something wrong")
	}
	if len(r.Acts) != 4 {
		t.Errorf("%d acts were played", len(r.Acts))
	}
	f := r.Faults
	if r.Commands["executed"] == 0 || r.Reboots == 0 || f.CommandsLost+f.AnswersLost == 0 || f.AnswersReordered == 0 || f.CommandsDuplicated == 0 {
		t.Error("the demo was too quiet to prove anything")
	}
}

// Where a result is lost the server must ask for it while somebody still looks. What a
// seed loses also depends on who comes first: the next is tried when it was nothing.
func TestALostResultKeepsNoActFromItsEnd(t *testing.T) {
	for seed := uint64(4); seed < 14; seed++ {
		r, err := Run(t.Context(), Options{For: time.Second, Devices: 3, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		if !r.Good() {
			t.Errorf("%+v", r)
		}
		if r.Retries > 0 || r.Faults.AnswersLost > 0 {
			return
		}
	}
	t.Error("no result was lost")
}
