package app

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/catalog/shelf"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
)

func TestEndsAreCountedByType(t *testing.T) {
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "w.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	types := shelf.New(db)
	if _, _, err := types.Apply(t.Context(), catalog.Type{Name: "move"}, "ann", time.Now()); err != nil {
		t.Fatal(err)
	}
	m := newTypeMetrics(types)
	sent := time.Now()
	for _, name := range []string{"move", "paint", "scratch"} {
		m.ended(&command.Command{Name: name, State: command.Executed, FirstSent: sent, Ended: sent.Add(2 * time.Second)})
	}
	m.ended(&command.Command{Name: "move", State: command.Expired, Ended: sent}) // never sent: it took no time
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.ends, m.took)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, one := range f.GetMetric() {
			labels := ""
			for _, l := range one.GetLabel() {
				labels += " " + l.GetValue()
			}
			got = append(got, fmt.Sprintf("%s%s %g", f.GetName(), labels, one.GetCounter().GetValue()+one.GetHistogram().GetSampleSum()))
		}
	}
	want := []string{"wilco_command_duration_seconds move 2", "wilco_command_duration_seconds other 4", "wilco_command_end_total executed move 1",
		"wilco_command_end_total executed other 2", "wilco_command_end_total expired move 1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
