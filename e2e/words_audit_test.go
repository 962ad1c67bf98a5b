package e2e

import (
	"bytes"
	"context"
	"path/filepath"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
)

// wordTamper: tamper SEQ FROM TO changes the bytes of an entry of the audit log,
// and tamper SEQ takes it away, as somebody would who has the file of a server
// that is stopped.
func wordTamper(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && (len(args) == 1 || len(args) == 3), "tamper SEQ [FROM TO]")
	w := of(ts)
	seq, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	db, err := sqlite.Open(filepath.Join(w.data, "wilco.db"), sqlite.Options{})
	ts.Check(err)
	defer func() { ts.Check(db.Close()) }()
	d, err := db.Document(context.Background(), store.DocumentID{Kind: "audit", Key: audit.KeyOf(seq)})
	ts.Check(err)
	change := store.DocumentWrite{DocumentID: d.DocumentID, Was: d.Version}
	if len(args) == 3 {
		change.Body = bytes.ReplaceAll(d.Body, []byte(args[1]), []byte(args[2]))
		if bytes.Equal(change.Body, d.Body) {
			ts.Fatalf("there is no %q in %s", args[1], d.Body)
		}
	}
	_, err = db.Commit(context.Background(), &store.Batch{Documents: []store.DocumentWrite{change}})
	ts.Check(err)
}
