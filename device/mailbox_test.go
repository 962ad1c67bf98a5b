package device

import "testing"

// woken says whether the run would be woken now, and sleeps again.
func (m *mailbox) woken() bool {
	select {
	case <-m.ready:
		return true
	default:
		return false
	}
}

// TestMailboxLater: what can wait wakes nobody, unless somebody waits for it,
// from before or after that, and is taken in order with the rest.
func TestMailboxLater(t *testing.T) {
	m := newMailbox()
	var got []int
	f := func(n int) func() { return func() { got = append(got, n) } }
	m.putLater(f(1))
	if m.woken() {
		t.Error("woken by what can wait")
	}
	m.setKeen(true)
	if !m.woken() {
		t.Error("not woken by what was there before")
	}
	m.putLater(f(2))
	if !m.woken() {
		t.Error("not woken while keen")
	}
	m.setKeen(false)
	m.putLater(f(3))
	if m.woken() {
		t.Error("woken when keen no more")
	}
	m.put(f(4))
	if !m.woken() {
		t.Error("not woken by what cannot wait")
	}
	for _, f := range m.take() {
		f()
	}
	for i, n := range got {
		if n != i+1 {
			t.Errorf("taken in the order %v", got)
		}
	}
	m.setKeen(true)
	if len(got) != 4 || m.woken() {
		t.Errorf("took %v; an empty mailbox wakes", got)
	}
}
