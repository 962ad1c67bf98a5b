package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/wire"
)

// A scenario is a text file of the life of one command: what happens, and
// below each line, indented by "    | ", everything that came out of it. The
// answers are written anew with -update; everything else stays as it is.
//
//	policy deliverBy=60s ackBy=10s backoff=linear attempts=3
//	at 0s create [held[=quorum] [expires=1m]] [unmet=hold] [reboot=expected]
//	at 1s unmet [because=REASON]
//	at 1s dispatch | approve | deny | cancel | retry | supersede     by=NAME text=WORDS
//	at 1s offline | online [inProgress] [boot=ID]
//	at 2s received | ack_rejected | said_running | succeeded | ...   code=CODE text=WORDS note=WORDS result=JSON
//	at 2s broker_refused | tick
//	until 60s            every tick that the command asks for until then
//	reload               what a restart does: to JSON and back
//	repeat 5 LINE        the line so many times
//	timeline
//
// A word with blanks writes them as "_".
const answer = "    | "

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "scenarios", "*.txt"))
	if err != nil || len(files) < 15 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			s := &script{t: t, out: &out, policy: matrixPolicy, online: true}
			for n, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
				if strings.HasPrefix(line, answer) {
					continue
				}
				out.WriteString(line + "\n")
				if err := s.run(strings.Fields(line)); err != nil {
					t.Fatalf("%s line %d: %q: %v", file, n+1, line, err)
				}
			}
			golden(t, file, out.String())
		})
	}
}

type script struct {
	t      testing.TB
	out    *strings.Builder
	policy Policy
	c      Command
	online bool
	boot   string
	seq    int64
	now    time.Time
}

func (s *script) say(format string, args ...any) {
	fmt.Fprintf(s.out, answer+format+"\n", args...)
}

func (s *script) run(words []string) error {
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return nil
	}
	switch words[0] {
	case "policy":
		return s.setPolicy(words[1:])
	case "at":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return err
		}
		if s.now = t0.Add(d); len(words) < 3 {
			return errors.New("at what time what?")
		}
		return s.event(words[2], words[3:])
	case "until":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return err
		}
		return s.until(t0.Add(d))
	case "reload":
		return s.reload()
	case "repeat":
		n, err := strconv.Atoi(words[1])
		for ; err == nil && n > 0; n-- {
			err = s.run(words[2:])
		}
		return err
	case "timeline":
		s.timeline()
		return nil
	}
	return fmt.Errorf("unknown word %q", words[0])
}

func (s *script) setPolicy(words []string) error {
	p := Policy{Backoff: Linear, MaxAttempts: 2}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "deliverBy":
			err = p.DeliverBy.UnmarshalText([]byte(value))
		case "ackBy":
			err = p.AckBy.UnmarshalText([]byte(value))
		case "heartbeat":
			err = p.Heartbeat.UnmarshalText([]byte(value))
		case "finishBy":
			err = p.FinishBy.UnmarshalText([]byte(value))
		case "settle":
			err = p.Settle.UnmarshalText([]byte(value))
		case "maxBackoff":
			err = p.MaxBackoff.UnmarshalText([]byte(value))
		case "backoff":
			p.Backoff = Backoff(value)
		case "jitter":
			p.Jitter, err = strconv.ParseFloat(value, 64)
		case "attempts":
			p.MaxAttempts, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("unknown clock %q", key)
		}
		if err != nil {
			return err
		}
	}
	s.policy = p
	return nil
}

func (s *script) event(word string, args []string) error {
	ev := Event{Kind: Kind(word)}
	var held *Approval
	var terms *Terms
	for _, a := range args {
		key, value, _ := strings.Cut(strings.ReplaceAll(a, "_", " "), "=")
		switch key {
		case "held":
			held = &Approval{Rule: "valve.set"}
			if held.Quorum, _ = strconv.Atoi(value); held.Quorum == 0 {
				held.Quorum = 1
			}
		case "expires":
			d, err := time.ParseDuration(value)
			if err != nil || held == nil {
				return fmt.Errorf("%q: %w", a, err)
			}
			held.Expires = s.now.Add(d)
		case "reboot":
			terms = &Terms{TypeVersion: 1, RebootExpected: value == "expected"}
		case "unmet":
			terms = &Terms{TypeVersion: 1, Unmet: Unmet(value)}
		case "because":
			ev.Because = Reason(strings.ReplaceAll(value, " ", "_"))
		case "digest":
			ev.Digest = value
		case "inProgress":
			ev.InProgress = true
		case "boot":
			s.boot = value
		case "by":
			ev.By = value
		case "text":
			ev.Text = value
		case "code":
			ev.Reason = &wire.Reason{Code: strings.ReplaceAll(value, " ", "_")}
		case "note":
			ev.Progress = &wire.Progress{Note: value}
		case "result":
			ev.Result = []byte(value)
		default:
			return fmt.Errorf("unknown argument %q", a)
		}
	}
	switch word {
	case "create":
		c, err := New(testTID, testDevice, "open", nil, s.policy, "ann", held, s.now)
		if err != nil {
			return err
		}
		c.Terms = terms
		s.c = c
		s.say("%s %s, wake %s", c.State, c.Reason, at(c.Wake))
		return nil
	case "offline":
		s.online = false
		return nil
	case "online":
		s.online = true
	case "approve":
		if ev.Digest == "" && s.c.Approval != nil { // who votes has looked
			ev.Digest = s.c.Approval.Digest
		}
	case "supersede":
		ev.SupersededBy = &otherTID
	case "undo":
		ev.UndoneBy = &otherTID
	}
	return s.apply(ev)
}

func (s *script) apply(ev Event) error {
	ev.DeviceOnline, ev.Boot, ev.Epoch, ev.Seq = s.online, s.boot, 7, s.seq+1
	was := s.c
	c, effects, err := strict(s.t, was, ev, s.now)
	if errors.Is(err, ErrNotAllowed) {
		s.say("refused: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	if s.c = c; c.Version == was.Version {
		s.say("nothing")
		return nil
	}
	line := fmt.Sprintf("%s, %s", c.State, lineAdded(was, c))
	for _, e := range effects {
		line += ", " + string(e)
		if e == SendRequest {
			s.seq++
			line += fmt.Sprintf(" seq=%d attempt=%d", c.Seq, c.Attempt)
		}
	}
	if c.Parked != was.Parked {
		line += fmt.Sprintf(", parked=%v", c.Parked)
	}
	if !c.Wake.Equal(was.Wake) {
		line += ", wake " + at(c.Wake)
	}
	if c.Final() {
		line += ", final"
	}
	s.say("%s", line)
	return nil
}

// until ticks whenever the command asks for it.
func (s *script) until(end time.Time) error {
	for n := 0; !s.c.Wake.IsZero() && !s.c.Wake.After(end); n++ {
		if n == 1000 {
			return errors.New("a thousand ticks: a busy loop")
		}
		s.now = later(s.now, s.c.Wake)
		s.say("%s tick", at(s.now))
		if err := s.apply(Event{Kind: Tick}); err != nil {
			return err
		}
	}
	s.now = end
	return nil
}

// reload does what a restart does to a command.
func (s *script) reload() error {
	b, err := json.Marshal(s.c)
	if err != nil {
		return err
	}
	s.c = Command{}
	return json.Unmarshal(b, &s.c)
}

func (s *script) timeline() {
	for _, e := range s.c.Timeline {
		line := fmt.Sprintf("%-7s %-15s %-13s %-21s %-7s attempt=%d", at(e.At), e.Kind, e.State, e.Reason, e.By, e.Attempt)
		if e.Count > 0 {
			line += fmt.Sprintf(" count=%d until %s", e.Count, at(e.Until))
		}
		if e.Anomaly {
			line += " anomaly"
		}
		if e.Detail != "" {
			line += fmt.Sprintf(" %q", e.Detail)
		}
		s.say("%s", line)
	}
	s.say("version %d, tries %d, refused %d, anomalies %d, boot %q, result %s", s.c.Version, s.c.Tries, s.c.Refused, s.c.Anomalies, s.c.Boot, s.c.Result)
}

func at(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Sub(t0).String()
}
