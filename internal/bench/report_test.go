package bench

import (
	"encoding/json"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPercentileByNearestRank(t *testing.T) {
	ms := func(n ...int) (d []time.Duration) {
		for _, v := range n {
			d = append(d, time.Duration(v)*time.Millisecond)
		}
		return d
	}
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[99-i] = time.Duration(i+1) * time.Millisecond
	}
	for _, test := range []struct {
		of   []time.Duration
		p    float64
		want float64
	}{
		{nil, 0.5, 0}, {ms(7), 0.01, 7}, {ms(7), 0.99, 7},
		{ms(3, 1, 2), 0.5, 2}, {ms(4, 3, 2, 1), 0.5, 2}, {ms(1, 2), 0.51, 2},
		{hundred, 0.50, 50}, {hundred, 0.99, 99}, {hundred, 0.999, 100}, {hundred, 1, 100}, {hundred, 0, 1},
	} {
		if got := percentile(test.of, test.p); got != test.want {
			t.Errorf("percentile(%v of %d) = %g, want %g", test.p, len(test.of), got, test.want)
		}
	}
}

// What programs read of a report; a name that is gone breaks them.
func TestReportKeys(t *testing.T) {
	for _, test := range []struct {
		report any
		want   string
	}{
		{CommandsReport{Backlog: &BacklogReport{}}, "backlog commands cpuSecondsPerThousand cpus devices executedTwice " +
			"halfLoadP50Ms halfLoadPerSecond lifecyclesPerSecond loadCpuSecondsPerThousand lost oneAtATimeP99Ms outOfOrder " +
			"p50Ms p99Ms peakMemoryMiB seconds unsettled untrue"},
		{BacklogReport{}, "commands createdPerSecond memoryAfterRestartMiB memoryMiB restartSeconds"},
	} {
		b, err := json.Marshal(test.report)
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		var keys []string
		for k := range doc {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if got := strings.Join(keys, " "); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", reflect.TypeOf(test.report), got, test.want)
		}
	}
}

func TestPrintShowsEveryFault(t *testing.T) {
	r := CommandsReport{Commands: 1000, Devices: 10, LifecyclesPerSecond: 4321}
	r.ExecutedTwice, r.Lost, r.OutOfOrder, r.Unsettled, r.Untrue = 11, 12, 13, 14, 15
	var out strings.Builder
	r.Print(&out)
	if want := "executed twice 11, lost 12, out of order 13, not ended 14, untrue 15"; !strings.Contains(out.String(), want) || !strings.Contains(out.String(), "4321") {
		t.Errorf("%s\nis without %q", out.String(), want)
	}
	out.Reset()
	r.Backlog = &BacklogReport{Commands: 99}
	r.Print(&out)
	if got := out.String(); !strings.HasPrefix(got, "99 waiting commands for 10 devices\n") || !strings.Contains(got, "lost") {
		t.Errorf("backlog: %s", got)
	}
}

func TestReadReady(t *testing.T) {
	var c child
	if err := c.readReady(strings.NewReader("first admin token: x\nready http=a:1 tcp=b:2 ws=c:3\nmore\n")); err != nil || c.http != "a:1" || c.mqtt != "b:2" {
		t.Errorf("%+v %v", c, err)
	}
	if err := new(child).readReady(strings.NewReader("no luck\n")); err == nil {
		t.Error("ready without having said so")
	}
}

func TestWhatTheSystemSaysOfAProcess(t *testing.T) {
	pid := os.Getpid()
	before, err := cpuSeconds(pid)
	if err != nil {
		t.Fatal(err)
	}
	x := 1.0
	after := before
	for end := time.Now().Add(time.Minute); after <= before; {
		for range 1_000_000 {
			x = math.Sqrt(x + 1)
		}
		if after, err = cpuSeconds(pid); err != nil || time.Now().After(end) {
			t.Fatalf("%g s of CPU after %g: %v (%g)", after, before, err, x)
		}
	}
	now, err := memoryMiB(pid)
	if err != nil {
		t.Fatal(err)
	}
	if peak, err := peakMiB(pid); err != nil || now <= 0 || peak < now {
		t.Errorf("memory %g MiB, at most %g: %v", now, peak, err)
	}
	if _, err := cpuSeconds(-1); err == nil {
		t.Error("a process that is not there used CPU")
	}
}
