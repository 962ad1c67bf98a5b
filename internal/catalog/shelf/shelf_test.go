package shelf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *sqlite.Store {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "w.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func parsed(t *testing.T, text string) catalog.Type {
	t.Helper()
	list, err := catalog.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

func apply(t *testing.T, s *Shelf, text string) (*Item, bool) {
	t.Helper()
	i, isNew, err := s.Apply(t.Context(), parsed(t, text), "ann", at)
	if err != nil {
		t.Fatal(err)
	}
	return i, isNew
}

// TestVersions applies, restarts and looks: versions rise, the same content is no
// version, and an older one can still be looked at.
func TestVersions(t *testing.T) {
	db := open(t)
	s := New(db)
	for n, text := range []string{"name: a.b\nwindow: 1", "name: a.b\nwindow: 2", "name: a.b\nwindow: 3"} {
		if i, isNew := apply(t, s, text); !isNew || i.Version != n+1 || i.By != "ann" || !i.Created.Equal(at) || i.Terms.TypeVersion != n+1 || i.Terms.Window != n+1 {
			t.Fatalf("%+v, %v", i.Type, isNew)
		}
	}
	if i, isNew := apply(t, s, `{"window": 3, "name": "a.b"}`); isNew || i.Version != 3 {
		t.Errorf("the same content again: version %d, new %v", i.Version, isNew)
	}
	apply(t, s, "name: a.a")
	for n := range 9 { // as text, 10 would come before 2
		apply(t, s, fmt.Sprintf("name: a.b\nwindow: %d", 4+n))
	}
	again := New(db)
	if err := again.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := again.All()
	if len(all) != 2 || all[0].Name != "a.a" || all[1].Version != 12 || all[1].Window != 12 {
		t.Errorf("after a restart: %d types", len(all))
	}
	if i, ok := again.Version("a.b", 2); !ok || i.Window != 2 {
		t.Errorf("version 2: %v %v", i, ok)
	}
	for _, v := range []int{-1, 13} {
		if _, ok := again.Version("a.b", v); ok {
			t.Errorf("there is a version %d", v)
		}
	}
	if _, ok := again.Newest("a.c"); ok {
		t.Error("there is a type that nobody has applied")
	}
}

// meanwhile lets something happen before a commit.
type meanwhile struct {
	*sqlite.Store
	do func()
}

func (m *meanwhile) Commit(ctx context.Context, b *store.Batch) (int64, error) {
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return m.Store.Commit(ctx, b)
}

// TestConflictingVersions: of two who apply at the same time one is told, and neither is lost.
func TestConflictingVersions(t *testing.T) {
	db := open(t)
	other, m := New(db), &meanwhile{Store: db}
	s := New(m)
	m.do = func() { apply(t, other, "name: a\nwindow: 5") }
	_, _, err := s.Apply(t.Context(), parsed(t, "name: a\nwindow: 6"), "bo", at)
	if fault.CodeOf(err) != fault.Conflict {
		t.Fatalf("got %v, want a conflict", err)
	}
	if i, ok := s.Newest("a"); !ok || i.Window != 5 {
		t.Errorf("what the other has applied is not seen: %v", i)
	}
	if i, isNew := apply(t, s, "name: a\nwindow: 6"); !isNew || i.Version != 2 {
		t.Errorf("applied again: %d %v", i.Version, isNew)
	}
}

// broken is a store whose commits fail.
type broken struct{ *sqlite.Store }

var errDisk = errors.New("disk")

func (broken) Commit(context.Context, *store.Batch) (int64, error) { return 0, errDisk }

func TestWhatIsNotDurableIsNotThere(t *testing.T) {
	s := New(broken{open(t)})
	if _, _, err := s.Apply(t.Context(), parsed(t, "name: a"), "bo", at); !errors.Is(err, errDisk) {
		t.Fatalf("got %v", err)
	}
	if _, ok := s.Newest("a"); ok {
		t.Error("a type is there whose commit failed")
	}
}

func TestBadSchemaIsRefused(t *testing.T) {
	s := New(open(t))
	_, _, err := s.Apply(t.Context(), parsed(t, "name: a\nparams: {type: nonsense}"), "bo", at)
	if f := fault.From(err); f.Code != fault.Invalid || f.Field != "params.type" {
		t.Errorf("got %v", err)
	}
}

func TestCheckResult(t *testing.T) {
	s := New(open(t))
	apply(t, s, "name: a\nresult: {type: object, required: [x]}")
	for _, c := range []struct {
		name    string
		version int
		result  string
		ok      bool
	}{{"a", 1, `{"x":1}`, true}, {"a", 1, `{}`, false}, {"a", 1, ``, false}, {"a", 0, `{}`, true}, {"a", 2, `{}`, true}, {"b", 1, `{}`, true}} {
		if err := s.CheckResult(c.name, c.version, json.RawMessage(c.result)); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestVersionsAreBounded: what is there already is answered all the same.
func TestVersionsAreBounded(t *testing.T) {
	s := New(open(t))
	apply(t, s, "name: a")
	s.count = MaxVersions
	if _, isNew := apply(t, s, "name: a"); isNew {
		t.Error("the same is new")
	}
	if _, _, err := s.Apply(t.Context(), parsed(t, "name: b"), "ann", at); fault.CodeOf(err) != fault.Conflict {
		t.Error(err)
	}
}
