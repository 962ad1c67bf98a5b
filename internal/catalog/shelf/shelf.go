// Package shelf keeps the command types of a server: all versions in memory, for
// those who ask with every command, and in the store, where they are documents of
// kind "type" with the key name/version.
//
// Nothing is ever taken off the shelf, because commands go on naming the version
// that they were made by. Methods that only look do not block; all methods are
// safe for concurrent use.
package shelf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// Kind is that of the documents. Stored; never change.
const Kind store.Kind = "type"

// MaxVersions bounds all versions of all types: they are in memory.
const MaxVersions = 10_000

// Store is where types are kept.
type Store interface {
	Commit(context.Context, *store.Batch) (int64, error)
	Documents(ctx context.Context, kind store.Kind, prefix, after string, limit int) ([]store.Document, error)
}

// Item is one version of a type, compiled, with the terms that its commands share.
type Item struct {
	*catalog.Checked
	Terms *command.Terms
}

// Shelf has the types. Make one with New, and Load it.
type Shelf struct {
	store Store

	mu    sync.RWMutex
	types map[string][]*Item // by name, the versions from 1
	count int
}

// New makes an empty shelf.
func New(s Store) *Shelf { return &Shelf{store: s, types: map[string][]*Item{}} }

// key sorts the versions of a type by their numbers. Stored; never change.
func key(name string, version int) string { return fmt.Sprintf("%s/%08d", name, version) }

// Load reads all types from the store. It blocks.
func (s *Shelf) Load(ctx context.Context) error { return s.read(ctx, "") }

// read brings the shelf up to date with the documents below a prefix.
func (s *Shelf) read(ctx context.Context, prefix string) error {
	const page = 500
	for after := ""; ; {
		docs, err := s.store.Documents(ctx, Kind, prefix, after, page)
		if err != nil {
			return err
		}
		for _, d := range docs {
			var t catalog.Type
			if err := json.Unmarshal(d.Body, &t); err != nil {
				return fmt.Errorf("command type %s: %w", d.Key, err)
			}
			item, err := compile(t)
			if err != nil {
				return fmt.Errorf("command type %s: %w", d.Key, err)
			}
			s.put(item)
			after = d.Key
		}
		if len(docs) < page {
			return nil
		}
	}
}

func compile(t catalog.Type) (*Item, error) {
	c, err := catalog.Compile(t)
	if err != nil {
		return nil, err
	}
	return &Item{c, t.Terms()}, nil
}

// put adds the next version of a type; one that is there already stays.
func (s *Shelf) put(i *Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if versions := s.types[i.Name]; i.Version == len(versions)+1 {
		s.types[i.Name] = append(versions, i)
		s.count++
	}
}

// Newest gives the type that new commands of that name are made by.
func (s *Shelf) Newest(name string) (*Item, bool) { return s.Version(name, 0) }

// Version gives one version of a type; 0 is the newest.
func (s *Shelf) Version(name string, version int) (*Item, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	versions := s.types[name]
	if version == 0 {
		version = len(versions)
	}
	if version < 1 || version > len(versions) {
		return nil, false
	}
	return versions[version-1], true
}

// All gives the newest version of each type, in the order of their names.
func (s *Shelf) All() []*Item {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*Item, 0, len(s.types))
	for _, name := range slices.Sorted(maps.Keys(s.types)) {
		versions := s.types[name]
		list = append(list, versions[len(versions)-1])
	}
	return list
}

// CheckResult says what is wrong with the result of a command that was made by
// that version of its type: nil when it fits, or when there is nothing to fit.
func (s *Shelf) CheckResult(name string, version int, result json.RawMessage) error {
	i, ok := s.Version(name, version)
	if version == 0 || !ok {
		return nil
	}
	return i.CheckResult("result", result)
}

// Apply makes want, as catalog.Parse gives it, the newest version of its name,
// and returns that and whether it is a new one: the same content is not. It
// blocks until that is durable. Errors: Invalid; Conflict when somebody else has
// applied another content meanwhile, or there are MaxVersions.
func (s *Shelf) Apply(ctx context.Context, want catalog.Type, by string, now time.Time) (*Item, bool, error) {
	s.mu.RLock()
	full := s.count >= MaxVersions
	s.mu.RUnlock()
	was, there := s.Newest(want.Name)
	var have *catalog.Type
	if there {
		have = &was.Type
	}
	next, isNew := catalog.Next(have, want)
	if !isNew {
		return was, false, nil
	}
	if full {
		return nil, false, fault.New(fault.Conflict, "there are %d versions of command types, which is all that are kept; none can be added", MaxVersions)
	}
	next.Created, next.By = now.UTC().Truncate(time.Millisecond), by
	item, err := compile(next)
	if err != nil {
		return nil, false, err
	}
	body, err := json.Marshal(next)
	if err != nil {
		return nil, false, fmt.Errorf("command type %s: %w", next.Name, err)
	}
	id := store.DocumentID{Kind: Kind, Key: key(next.Name, next.Version)}
	_, err = s.store.Commit(ctx, &store.Batch{Documents: []store.DocumentWrite{{DocumentID: id, Body: body}}})
	if conflict := (*store.ConflictError)(nil); errors.As(err, &conflict) {
		if err := s.read(ctx, next.Name+"/"); err != nil {
			return nil, false, err
		}
		return nil, false, fault.New(fault.Conflict, "somebody else has applied version %d of %s at the same time; look at it, and apply again", next.Version, next.Name)
	}
	if err != nil {
		return nil, false, err
	}
	s.put(item)
	return item, true, nil
}
