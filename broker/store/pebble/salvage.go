package pebblestore

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// damagedSuffix is added to the name of a damaged log that is kept aside.
	damagedSuffix = ".damaged"
	// keptAside is how many of those are kept.
	keptAside = 4
	// salvageFile says, from before the first damaged log is replaced until what
	// that means for sessions is durable, what was found.
	salvageFile = "SALVAGE"
)

// salvage is what damaged logs have cost, and what still counts of the rest.
type salvage struct {
	Lost []lostPart `json:"lost"`
	// Fresh are the keys of packet ids that were written after the last lost part,
	// and so are right; Touched the sessions of which anything was.
	Fresh   [][]byte `json:"fresh"`
	Touched []uint64 `json:"touched"`
	// Rebuilt says that the store was made anew: then Ranges is what else is lost, and
	// a key that is in none of them is right where no log was damaged.
	Rebuilt bool        `json:"rebuilt,omitempty"`
	Ranges  []lostRange `json:"ranges,omitempty"`
	// resumed says that an earlier start found it, and did not come to its end.
	resumed bool
}

// lostPart is a place in a log that was damaged.
type lostPart struct {
	File string `json:"file"`
	From int    `json:"from"` // in bytes
	To   int    `json:"to"`
	// Changes is how many writes were in it, 0 when what is around it does not tell.
	Changes uint64 `json:"changes"`
}

// logFile is one log in the store's directory.
type logFile struct {
	path   string
	number uint32
	logContent
}

// salvageLogs repairs the logs that a crash or an end has left: a damaged log is
// replaced by one with the records that are whole, and kept under another name.
// The directory is locked. nil says that nothing was lost.
//
//	write SALVAGE ─▶ for each log: write LOG.short ─▶ link LOG.damaged ─▶ rename LOG.short to LOG
//	  ─▶ Pebble reads the logs ─▶ sessions are put right, durably ─▶ remove SALVAGE
//
// A crash between any two steps has the next start do what is left.
func (s *Store) salvageLogs(fs vfs.FS) (*salvage, error) {
	found, err := readSalvage(fs, s.dir)
	if err != nil {
		return nil, err
	}
	logs, err := readLogs(fs, s.dir, false)
	if err != nil || !slices.ContainsFunc(logs, logFile.broken) {
		return found, err
	}
	if logs, err = readLogs(fs, s.dir, true); err != nil {
		return nil, err
	}
	if found == nil { // else it says what there was before any log was replaced
		if found = survey(logs); found != nil {
			if err := writeJSON(fs, s.dir, salvageFile, found); err != nil {
				return nil, err
			}
		}
	}
	for i := range logs {
		if logs[i].broken() {
			if err := s.replace(fs, &logs[i]); err != nil {
				return nil, err
			}
		}
	}
	return found, prune(fs, s.dir)
}

// broken tells whether a log is to be replaced.
func (l logFile) broken() bool { return len(l.holes) > 0 || l.tornSize > 0 }

// readLogs reads all logs, oldest first. Their records are kept only when asked
// for: there may be a lot of them.
func readLogs(fs vfs.FS, dir string, records bool) ([]logFile, error) {
	logs, err := logsOf(fs, dir)
	if err != nil {
		return nil, err
	}
	for i := range logs {
		l := &logs[i]
		b, err := readAll(fs, l.path)
		if err != nil {
			return nil, err
		}
		if isOld(b) {
			continue
		}
		l.logContent = readLog(b, l.number, i < len(logs)-1)
		if !records {
			l.records = nil
		}
	}
	return logs, nil
}

// survey says what is lost in logs, or nil.
func survey(logs []logFile) *salvage {
	var v salvage
	fresh, touched := make(map[string]bool), make(map[uint64]bool)
	for i := range logs {
		l, next := &logs[i], 0
		for _, h := range l.holes {
			v.Lost = append(v.Lost, lostPart{File: l.path, From: h.from, To: h.to, Changes: l.changes(h)})
			clear(fresh)
			clear(touched)
			next = h.before
		}
		for _, r := range l.records[next:] {
			note(r.batch, fresh, touched)
		}
	}
	if v.Lost == nil {
		return nil
	}
	for key := range fresh {
		v.Fresh = append(v.Fresh, []byte(key))
	}
	for sid := range touched {
		v.Touched = append(v.Touched, sid)
	}
	return &v
}

// changes counts what was in a hole by Pebble's numbers of the batches around it.
func (l *logFile) changes(h hole) uint64 {
	if h.before == 0 || h.before == len(l.records) {
		return 0
	}
	last, ok := batchrepr.ReadHeader(l.records[h.before-1].batch)
	next, has := batchrepr.ReadHeader(l.records[h.before].batch)
	if end := uint64(last.SeqNum) + uint64(last.Count); ok && has && uint64(next.SeqNum) > end {
		return uint64(next.SeqNum) - end
	}
	return 0
}

// note takes down which packet ids a batch sets, and whose state it changes.
func note(batch []byte, fresh map[string]bool, touched map[uint64]bool) {
	r := batchrepr.Read(batch)
	for {
		kind, key, value, ok, err := r.Next()
		if !ok || err != nil || len(key) == 0 {
			return
		}
		switch key[0] {
		case keySession:
			if kind == pebble.InternalKeyKindSet {
				if sid, _, err := decodeRecord(string(key[1:]), value); err == nil {
					touched[sid] = true
				}
			}
		case keyReceived, keyReserved, keyReleased:
			if kind == pebble.InternalKeyKindSet {
				fresh[string(key)] = true
			} else {
				delete(fresh, string(key))
			}
			touched[number(key)] = true
		case keyTotals, keyEntry, keySubscription:
			touched[number(key)] = true
		}
	}
}

// replace puts what is whole of a log in its place.
func (s *Store) replace(fs vfs.FS, l *logFile) error {
	aside := l.path + damagedSuffix
	if len(l.holes) == 0 {
		aside = ""
		s.log.Warn("broker store: the last write to the log is torn, as a crash leaves it; nobody was told that it was kept",
			"file", l.path, "at", l.torn, "bytes", l.tornSize)
	}
	short := filepath.Base(l.path) + ".short"
	if err := writeFile(fs, s.dir, short, writeLog(l.records, l.number)); err != nil {
		return err
	}
	if aside != "" {
		if err := fs.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := vfs.LinkOrCopy(fs, l.path, aside); err != nil {
			return err
		}
		if err := syncDir(fs, s.dir); err != nil {
			return err
		}
	}
	if err := fs.Rename(filepath.Join(s.dir, short), l.path); err != nil {
		return err
	}
	return syncDir(fs, s.dir)
}

// tell reports what was lost. read has the logs that were still needed: what is
// damaged in one that Pebble has no use for any more costs nothing.
func (s *Store) tell(found *salvage, read func(string) bool) (needed bool) {
	for _, p := range found.Lost {
		if !read(p.File) {
			s.log.Info("broker store: a log that is not needed any more was damaged; nothing is lost", "file", p.File)
			continue
		}
		needed = true
		s.damaged.Add(1)
		s.log.Error("broker store: a part of the log was damaged, and the changes in it are lost; all before and after it is kept",
			"file", p.File, "from", p.From, "to", p.To, "bytes", p.To-p.From, "changes", p.Changes, "aside", p.File+damagedSuffix)
	}
	return needed
}

// prune removes all but the newest of the logs that were kept aside.
func prune(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".log"+damagedSuffix) })
	slices.Sort(names)
	for _, name := range names[:max(len(names)-keptAside, 0)] {
		if err := fs.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// readSalvage reads what a start that did not come to its end has found.
func readSalvage(fs vfs.FS, dir string) (*salvage, error) {
	b, err := readAll(fs, filepath.Join(dir, salvageFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	v := new(salvage)
	if err == nil {
		err = fromJSON(salvageFile, b, v)
	}
	v.resumed = true
	return v, err
}

// writeFile writes a file that is there as a whole or not at all.
func writeFile(fs vfs.FS, dir, name string, b []byte) error {
	path := filepath.Join(dir, name)
	part := path + ".new"
	f, err := fs.Create(part, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(part, path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// logsOf lists the logs in dir, oldest first.
func logsOf(fs vfs.FS, dir string) (logs []logFile, err error) {
	names, err := fs.List(dir)
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".log")
		if number, err := strconv.ParseUint(digits, 10, 32); ok && err == nil {
			logs = append(logs, logFile{path: filepath.Join(dir, name), number: uint32(number)})
		}
	}
	slices.SortFunc(logs, func(a, b logFile) int { return cmp.Compare(a.number, b.number) })
	return logs, err
}

func readAll(fs vfs.FS, path string) (b []byte, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err = io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}
