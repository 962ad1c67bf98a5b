package command

// Undoing makes c, which is new, the one that takes back the command tid, because
// of why. The other one must be given the event Undo in the same commit.
func (c *Command) Undoing(tid TID, why string) {
	c.Undoes = &tid
	c.Timeline[0].Detail = limited("undoes " + withWhy(tid, why))
}

// undone: a command was made that takes this one back.
func undone(m *move) error {
	switch {
	case m.c.FirstSent.IsZero():
		return &NotAllowedError{m.c.State, Undo, "and was never sent: nothing is to be taken back"}
	case m.ev.UndoneBy == nil:
		return &NotAllowedError{m.c.State, Undo, "and what takes it back is not named"}
	}
	m.c.UndoneBy = m.ev.UndoneBy
	m.ev.Text = "by " + withWhy(*m.ev.UndoneBy, m.ev.Text)
	m.note(m.c.State, Undone, false)
	return nil
}

func withWhy(tid TID, why string) string {
	if why == "" {
		return tid.String()
	}
	return tid.String() + ": " + why
}
