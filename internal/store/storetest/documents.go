package storetest

import (
	"errors"
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// kinds of documents of the tests; the one is a prefix of the other.
const (
	kindA store.Kind = "test"
	kindB store.Kind = "test-2"
)

// document is a write of the body over version was; "-" takes the document away.
func document(kind store.Kind, key string, was int64, body string) store.DocumentWrite {
	w := store.DocumentWrite{DocumentID: store.DocumentID{Kind: kind, Key: key}, Was: was, Body: []byte(body)}
	if body == "-" {
		w.Body = nil
	}
	return w
}

func (s *suite) document(kind store.Kind, key string, version int64, body string) {
	s.Helper()
	d, err := s.Document(s.ctx, store.DocumentID{Kind: kind, Key: key})
	if version == 0 {
		s.fails(err, fault.NotFound)
		return
	}
	s.no(err)
	if d.Kind != kind || d.Key != key || d.Version != version || string(d.Body) != body || d.Body == nil {
		s.Errorf("%s %s is version %d, %q; want %d, %q", kind, key, d.Version, d.Body, version, body)
	}
}

func documents(s *suite) {
	s.document(kindA, "a", 0, "")
	s.commit(store.Batch{Documents: []store.DocumentWrite{
		document(kindA, "a", 0, "one"), document(kindB, "a", 0, ""), document(kindA, "\x00\xff", 0, "\x00"),
	}})
	s.document(kindA, "a", 1, "one")
	s.document(kindB, "a", 1, "")
	s.document(kindA, "\x00\xff", 1, "\x00")
	s.document(kindA, "A", 0, "")
	// Several writes of one document follow each other.
	s.commit(store.Batch{Documents: []store.DocumentWrite{
		document(kindA, "a", 1, "two"), document(kindA, "a", 2, "three"), document(kindA, "b", 0, "x"), document(kindA, "b", 1, "-"),
		document(kindA, "c", 0, "-"),
	}})
	s.document(kindA, "a", 3, "three")
	s.document(kindA, "b", 0, "")
	s.document(kindA, "c", 0, "")
	s.commit(store.Batch{Documents: []store.DocumentWrite{document(kindB, "a", 1, "-"), document(kindB, "a", 0, "anew")}})
	s.document(kindB, "a", 1, "anew")
	s.reopen()
	s.document(kindA, "a", 3, "three")
	s.document(kindB, "a", 1, "anew")

	body := []byte("mine")
	s.commit(store.Batch{Documents: []store.DocumentWrite{{DocumentID: store.DocumentID{Kind: kindA, Key: "mine"}, Body: body}}})
	copy(body, "your")
	s.document(kindA, "mine", 1, "mine")
	for _, key := range []string{"", strings.Repeat("k", store.MaxKey+1)} {
		_, err := s.Commit(s.ctx, &store.Batch{Documents: []store.DocumentWrite{document(kindA, key, 0, "x")}})
		s.fails(err, fault.Invalid)
	}
	longest := strings.Repeat("k", store.MaxKey)
	s.commit(store.Batch{Documents: []store.DocumentWrite{document(kindA, longest, 0, "x")}})
	s.document(kindA, longest, 1, "x")
}

func documentConflicts(s *suite) {
	c := made(1, pump)
	s.commit(store.Batch{Documents: []store.DocumentWrite{document(kindA, "a", 0, "one")}})
	for name, w := range map[string]store.DocumentWrite{
		"made twice":         document(kindA, "a", 0, "x"),
		"older version":      document(kindA, "a", 2, "x"),
		"not there":          document(kindA, "b", 1, "x"),
		"taken away twice":   document(kindA, "b", 1, "-"),
		"must not be there":  document(kindA, "a", 0, "-"),
		"taken away another": document(kindA, "a", 2, "-"),
	} {
		_, err := s.Commit(s.ctx, &store.Batch{Commands: writes(c), Documents: []store.DocumentWrite{document(kindA, "new", 0, "x"), w},
			Events: []store.Event{{Type: store.EventCommand, At: epoch}}})
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) || len(conflict.TIDs) > 0 || !slices.Equal(conflict.Documents, []store.DocumentID{w.DocumentID}) {
			s.Errorf("%s: %v", name, err)
		}
		s.document(kindA, "a", 1, "one")
		s.document(kindA, "new", 0, "")
		_, err = s.Command(s.ctx, c.TID)
		s.fails(err, fault.NotFound)
	}
	// A command's conflict holds back a document, and both are named.
	_, err := s.Commit(s.ctx, &store.Batch{Commands: writes(in(c, command.Sent, epoch)), Documents: []store.DocumentWrite{document(kindA, "a", 7, "x"), document(kindA, "new", 0, "x")}})
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || len(conflict.TIDs) != 1 || len(conflict.Documents) != 1 {
		s.Errorf("%v", err)
	}
	s.document(kindA, "new", 0, "")
}

func documentPages(s *suite) {
	keys := []string{"a", "a/1", "a/2", "a/22", "a/3", "a0", "b/1", "\xff", "\xff\xff", "\xff\xff/1"}
	var b store.Batch
	for _, k := range keys {
		b.Documents = append(b.Documents, document(kindA, k, 0, k), document(kindB, k, 0, "other"))
	}
	s.commit(b)
	list := func(prefix, after string, limit int) (got []string) {
		page, err := s.Store.Documents(s.ctx, kindA, prefix, after, limit)
		s.no(err)
		for _, d := range page {
			if string(d.Body) != d.Key || d.Kind != kindA || d.Version != 1 {
				s.Errorf("%+v", d)
			}
			got = append(got, d.Key)
		}
		return got
	}
	for _, test := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 0, keys},
		{"a/", "", 0, []string{"a/1", "a/2", "a/22", "a/3"}},
		{"a/", "", 2, []string{"a/1", "a/2"}},
		{"a/", "a/2", 2, []string{"a/22", "a/3"}},
		{"a/", "a/3", 2, nil},
		{"a/", "b", 2, nil},
		{"a/2", "", 0, []string{"a/2", "a/22"}},
		{"\xff", "", 0, keys[7:]},
		{"\xff\xff", "", 0, keys[8:]},
		{"c", "", 0, nil},
	} {
		if got := list(test.prefix, test.after, test.limit); !slices.Equal(got, test.want) {
			s.Errorf("prefix %q after %q: %q, want %q", test.prefix, test.after, got, test.want)
		}
	}
	for _, limit := range []int{-1, 1001} {
		_, err := s.Store.Documents(s.ctx, kindA, "", "", limit)
		s.fails(err, fault.Invalid)
	}
}
