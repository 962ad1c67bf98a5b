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

// With this seed the result of the rollback is lost: the server must ask for it
// while somebody still looks.
func TestALostResultKeepsNoActFromItsEnd(t *testing.T) {
	r, err := Run(t.Context(), Options{For: time.Second, Devices: 3, Seed: 4, Settle: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Good() || r.Retries == 0 && r.Faults.AnswersLost == 0 {
		t.Errorf("%+v", r)
	}
}
