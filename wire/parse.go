package wire

import (
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// The known fields of each document, in the order in which they are written.
var (
	commandFields  = []string{"tid", "cmd", "status", "params", "seq", "epoch", "attempt", "issued", "notAfter", "if"}
	ackFields      = []string{"tid", "status", "reason"}
	resultFields   = []string{"tid", "status", "progress", "result", "reason", "state"}
	statusFields   = []string{"online", "boot", "ts", "firmware", "inProgress", "commands"}
	reasonFields   = []string{"code", "text"}
	progressFields = []string{"percent", "note"}
)

func parseCommand(payload []byte) (Command, error) {
	var c Command
	s := scan(payload)
	s.document(commandFields, func(field string) {
		switch field {
		case "tid":
			c.TID = s.tid()
		case "cmd":
			c.Cmd = s.label(MaxCmd)
		case "status":
			c.Status = s.status(commandStatuses)
		case "params":
			c.Params = s.raw()
		case "seq":
			c.Seq = s.integer()
		case "epoch":
			c.Epoch = s.integer()
		case "attempt":
			c.Attempt = s.attempt()
		case "issued":
			c.Issued = s.time()
		case "notAfter":
			c.NotAfter = s.time()
		case "if":
			c.If = s.raw()
		}
	})
	if s.err == nil && c.Cmd == "" && c.Status == Request {
		s.fail("cmd", "is missing; a request names what is to be done")
	}
	if err := s.complete(c.TID, c.Status, commandStatuses); err != nil {
		return Command{TID: c.TID}, err
	}
	return c, nil
}

func parseAck(payload []byte) (Ack, error) {
	var a Ack
	s := scan(payload)
	s.document(ackFields, func(field string) {
		switch field {
		case "tid":
			a.TID = s.tid()
		case "status":
			a.Status = s.status(ackStatuses)
		case "reason":
			a.Reason = s.reason()
		}
	})
	if err := s.complete(a.TID, a.Status, ackStatuses); err != nil {
		return Ack{}, err
	}
	return a, nil
}

func parseResult(payload []byte, statuses []string) (Result, error) {
	var r Result
	s := scan(payload)
	s.document(resultFields, func(field string) {
		switch field {
		case "tid":
			r.TID = s.tid()
		case "status":
			r.Status = s.status(statuses)
		case "progress":
			r.Progress = s.progress()
		case "result":
			r.Result = s.raw()
		case "reason":
			r.Reason = s.reason()
		case "state":
			r.State = s.raw()
		}
	})
	if err := s.complete(r.TID, r.Status, statuses); err != nil {
		return Result{}, err
	}
	return r, nil
}

func parseStatus(payload []byte) (Status, error) {
	var st Status
	said := false
	s := scan(payload)
	s.document(statusFields, func(field string) {
		switch field {
		case "online":
			st.Online, said = s.boolean(), true
		case "boot":
			st.Boot = s.label(MaxLabel)
		case "ts":
			st.TS = s.time()
		case "firmware":
			st.Firmware = s.label(MaxLabel)
		case "inProgress":
			s.array(func() {
				if len(st.InProgress) == MaxRunning {
					s.wrong("has more than " + strconv.Itoa(MaxRunning) + " entries")
					return
				}
				st.InProgress = append(st.InProgress, s.tid())
			})
		case "commands":
			s.array(func() {
				if len(st.Commands) == MaxCommands {
					s.wrong("has more than " + strconv.Itoa(MaxCommands) + " entries")
					return
				}
				st.Commands = append(st.Commands, s.label(MaxCommand))
			})
		}
	})
	if s.err == nil && !said {
		s.fail("online", "is missing; say true or false")
	}
	if s.err != nil {
		return Status{}, s.err
	}
	return st, nil
}

// complete checks the fields that no document about a command may lack.
func (s *scanner) complete(tid, status string, statuses []string) error {
	if s.err == nil && tid == "" {
		s.fail("tid", "is missing; repeat the tid of the command")
	}
	if s.err == nil && status == "" {
		s.err = statusError(statuses)
	}
	if s.err != nil {
		return s.err
	}
	return nil
}

func (s *scanner) tid() string {
	// The bytes themselves are checked: an escape is not a tid's character.
	raw, _ := s.stringValue()
	if s.err != nil {
		return ""
	}
	if !validName(raw) {
		s.wrong(nameRule)
		return ""
	}
	return string(raw)
}

func (s *scanner) status(allowed []string) string {
	raw, _ := s.stringValue()
	if s.err != nil {
		return ""
	}
	status := canonicalStatus(raw)
	if !slices.Contains(allowed, status) {
		s.err = statusError(allowed)
		return ""
	}
	return status
}

// label reads a short string that is refused when it is too long.
func (s *scanner) label(limit int) string {
	text := s.text()
	if len(text) > limit {
		s.wrong("is longer than " + strconv.Itoa(limit) + " bytes")
		return ""
	}
	return text
}

func (s *scanner) attempt() int {
	n := s.integer()
	if n > 1<<31-1 {
		s.wrong("is too large a number")
		return 0
	}
	return int(n)
}

// time reads an RFC 3339 time; in UTC whatever its offset says.
func (s *scanner) time() time.Time {
	raw, _ := s.stringValue()
	if s.err != nil {
		return time.Time{}
	}
	// UnmarshalText keeps to RFC 3339 more strictly than time.Parse.
	var t time.Time
	err := t.UnmarshalText(raw)
	t = t.UTC()
	if err != nil || t.Year() < 0 || t.Year() > 9999 {
		s.wrong("must be a time like 2006-01-02T15:04:05.000Z (RFC 3339)")
		return time.Time{}
	}
	return t
}

func (s *scanner) reason() *Reason {
	r := new(Reason)
	s.object(reasonFields, func(field string) {
		switch field {
		case "code":
			r.Code = cut(s.text(), MaxCode)
		case "text":
			r.Text = cut(s.text(), MaxText)
		}
	})
	return r
}

func (s *scanner) progress() *Progress {
	p := new(Progress)
	s.object(progressFields, func(field string) {
		switch field {
		case "percent":
			f := s.float()
			if f < 0 || f > 100 {
				s.wrong("must be from 0 to 100")
			}
			p.Percent = &f
		case "note":
			p.Note = cut(s.text(), MaxText)
		}
	})
	return p
}

// cut shortens text to at most limit bytes, at the boundary of a character.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
