package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wilco-iot/wilco/broker/store"
)

// Durability says what a commit survives once it is done.
type Durability uint8

const (
	// Fsync: the crash of the machine. The default.
	Fsync Durability = iota
	// OS: the crash or kill of the process, not of the machine. When the power
	// goes, the changes of the last seconds go with it, and queues, handshakes and
	// retained messages are as they were then: what had been acknowledged since is
	// lost, what had been delivered comes again. The store opens all the same.
	OS
)

// String is the name of d in settings.
func (d Durability) String() string {
	switch d {
	case Fsync:
		return "fsync"
	case OS:
		return "os"
	}
	return "unknown"
}

// ParseDurability reads a name that String gives; "" is Fsync.
func ParseDurability(s string) (Durability, error) {
	for d := Fsync; d <= OS; d++ {
		if s == d.String() || s == "" && d == Fsync {
			return d, nil
		}
	}
	return 0, fmt.Errorf("durability %q is neither fsync nor os", s)
}

// Options configure a Store. The zero value is good.
type Options struct {
	Durability Durability
	// Reserve is the free space, in bytes, below which messages are refused with
	// ErrFull. It is what the store needs to take acknowledgements in, and so to
	// become smaller. Default 64 MiB, or an eighth of a disk that is smaller than
	// 512 MiB; negative: none, for tests.
	Reserve int64
	// Logger is told of damage and of failures in the background. Default:
	// nothing is logged.
	Logger *slog.Logger

	fs vfs.FS // default: the operating system's
}

const defaultReserve = 64 << 20

// Errors that done and Queue are given.
var (
	// ErrFull says that there is too little space left on the disk to take
	// messages. It wraps store.ErrFull.
	ErrFull = fmt.Errorf("too little space left on the disk: %w", store.ErrFull)
	// ErrFailed says that a write to the disk failed. Whether the changes that
	// were under way are on it shows only when the store is opened anew, so
	// nothing more is taken.
	ErrFailed = errors.New("the disk failed; make sure that it works and has room, then start again")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("store is closed")
	// ErrDamaged says that what the disk gave back is not what was written. It
	// comes with the name of the file.
	ErrDamaged = errors.New("data on the disk is damaged")
)

// Stats counts since Open.
type Stats struct {
	Groups  uint64 // written, each with one sync
	Batches uint64 // committed in them
	Refused uint64 // batches, with ErrFull
	Damaged uint64 // damaged places: in logs, at the start, and those that reading a queue has skipped
}

// Store is a store.Store over Pebble. Make one with Open. It is safe for
// concurrent use.
type Store struct {
	dir     string
	options Options
	log     *slog.Logger
	db      *pebble.DB
	lock    *pebble.Lock

	mu       sync.Mutex
	turned   sync.Cond // applied went up, or failed or closing was set
	sessions map[string]*queue
	nextSID  uint64
	last     uint64
	open     *group
	applied  uint64 // groups up to this one can be read
	failed   error
	closing  bool
	unswept  int    // sessions that have ended, with entries that need the sweeper
	trimmed  uint64 // no shared message below is on the disk
	// goneShared counts the shared messages let go of since then.
	goneShared int
	scratch    []byte
	key        []byte

	kick    chan struct{} // the open group has something
	endings chan *ended   // sessions to be swept
	written chan *group
	stop    chan struct{} // closed by Close, for the sweeper
	running sync.WaitGroup

	full   atomic.Bool
	damage atomic.Pointer[string] // the file that Pebble last found damaged

	groups, batches, refused, damaged atomic.Uint64
}

var _ store.Store = (*Store)(nil)

// Open opens the store in dir, which is made when it does not exist, for this
// user only. No two processes, nor two stores of one, can have it open. How
// long it takes grows with the number of sessions, not with what is queued.
// Errors wrap ErrDamaged where that is the cause.
func Open(dir string, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		dir: dir, options: o, log: o.Logger,
		sessions: make(map[string]*queue), nextSID: 1, key: make([]byte, 0, 64),
		kick: make(chan struct{}, 1), written: make(chan *group, 16), stop: make(chan struct{}),
		endings: make(chan *ended, 1024),
	}
	s.turned.L = &s.mu
	found, unswept, err := s.openDB()
	if err != nil {
		return nil, err
	}
	s.unswept = len(unswept)
	if s.options.Reserve == 0 {
		s.options.Reserve = defaultReserve
		if u, err := s.disk(); err == nil && u.TotalBytes > 0 {
			s.options.Reserve = min(defaultReserve, int64(u.TotalBytes/8))
		}
	}
	s.full.Store(s.short(0))
	s.running.Go(s.commitLoop)
	s.running.Go(s.notifyLoop)
	s.running.Go(func() { s.sweepLoop(unswept) })
	if found != nil {
		if err := s.salvaged(); err != nil {
			return nil, errors.Join(fmt.Errorf("open broker store %s: %w", dir, err), s.Close())
		}
	}
	return s, nil
}

// salvaged waits until what damage means for sessions is durable.
func (s *Store) salvaged() error {
	done := make(chan error, 1)
	s.Commit(new(store.Batch), func(err error) { done <- err })
	if err := <-done; err != nil {
		return err
	}
	return s.files().Remove(filepath.Join(s.dir, salvageFile))
}

// files is the file system with the directory.
func (s *Store) files() *files {
	if fs := s.options.fs; fs != nil {
		return &files{FS: fs, lazy: s.options.Durability == OS}
	}
	return &files{FS: vfs.Default, lazy: s.options.Durability == OS, real: true}
}

// openDB opens Pebble in the directory and loads what is kept in memory. It says what
// is lost, or nil, and which sessions are to be swept.
func (s *Store) openDB() (*salvage, []*ended, error) {
	fs := s.files()
	if fs.real {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return nil, nil, fmt.Errorf("open broker store: %w", err)
		}
		if err := os.Chmod(s.dir, 0o700); err != nil {
			return nil, nil, fmt.Errorf("open broker store: %w", err)
		}
	}
	if err := fs.MkdirAll(s.dir, 0); err != nil {
		return nil, nil, fmt.Errorf("open broker store: %w", err)
	}
	lock, err := pebble.LockDirectory(s.dir, fs) // before the first look: files may be replaced
	if err != nil {
		return nil, nil, fmt.Errorf("open broker store %s (is another process using it?): %w", s.dir, err)
	}
	found, unswept, err := s.openLocked(fs, lock)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open broker store %s: %w", s.dir, s.explain(err)), lock.Close())
	}
	s.lock = lock
	return found, unswept, nil
}

// openLocked opens what is there and, when that cannot be used, what can be made of it.
func (s *Store) openLocked(fs *files, lock *pebble.Lock) (found *salvage, unswept []*ended, err error) {
	if err := s.finishSwap(fs); err != nil {
		return nil, nil, err
	}
	if found, err = s.mend(fs); err != nil {
		return nil, nil, err
	}
	before := found
	if found, unswept, err = s.openFiles(fs, lock, before); !isDamage(err) {
		return found, unswept, err
	}
	if before, err = s.rebuild(fs, before, s.explain(err)); err != nil {
		return nil, nil, err
	}
	return s.openFiles(fs, lock, before)
}

// mend repairs the logs.
func (s *Store) mend(fs *files) (*salvage, error) {
	if !fs.lazy {
		return s.salvageLogs(fs)
	}
	if err := s.mendLogs(fs); err != nil {
		return nil, err
	}
	return readSalvage(fs, s.dir)
}

// openFiles opens Pebble and loads.
func (s *Store) openFiles(fs *files, lock *pebble.Lock, found *salvage) (_ *salvage, unswept []*ended, err error) {
	if err := s.unlisted(fs); err != nil {
		return nil, nil, err
	}
	o := s.pebbleOptions(fs)
	o.Lock = lock
	fs.watch()
	if s.db, err = pebble.Open(s.dir, o); err != nil {
		if errors.Is(err, os.ErrNotExist) || !isDamage(err) && !isSystem(err) {
			err = fmt.Errorf("%w: %w", errMalformed, err) // a list of files, or a file of another length
		}
		return nil, nil, err
	}
	read := fs.watched()
	if found, err = s.settleLogs(fs, found, read); err == nil {
		s.open = s.newGroup(1)
		if unswept, err = s.load(found); err != nil {
			_ = s.open.batch.Close()
		}
	}
	if err != nil {
		clear(s.sessions)
		return nil, nil, errors.Join(err, s.db.Close())
	}
	return found, unswept, nil
}

// settleLogs does what is to be done with the logs when Pebble has read them, and tells
// of what was lost where that was still needed.
func (s *Store) settleLogs(fs *files, found *salvage, read map[string]bool) (*salvage, error) {
	if fs.lazy {
		if err := s.dropLogs(fs); err != nil {
			return nil, err
		}
	}
	if found == nil {
		return nil, nil
	}
	all := found.resumed || found.Rebuilt // Pebble has no use any more for the logs that were read
	if !s.tell(found, func(log string) bool { return all || read[filepath.Base(log)] }) && !found.Rebuilt {
		return nil, fs.Remove(filepath.Join(s.dir, salvageFile))
	}
	return found, nil
}

// Sizes of what Pebble keeps in memory: the blocks it has read, and the tables
// it has not yet written, of which there are few at a time.
const (
	cacheSize    = 16 << 20
	memTableSize = 16 << 20
	memTables    = 4
)

// tableSize is memTableSize, or less on a small disk: each log takes that much
// room from its beginning, and there may be several.
func (s *Store) tableSize() uint64 {
	if u, err := s.disk(); err == nil && u.TotalBytes > 0 {
		return max(min(memTableSize, u.TotalBytes/32), 1<<20)
	}
	return memTableSize
}

func (s *Store) pebbleOptions(fs vfs.FS) *pebble.Options {
	return &pebble.Options{
		FS: fs, FormatMajorVersion: pebble.FormatNewest, Merger: merger,
		CacheSize: cacheSize, MemTableSize: s.tableSize(), MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold: 4, L0StopWritesThreshold: 64,
		Logger: quiet{s},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { s.log.Error("broker store: work in the background failed", "error", err) },
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				s.damage.Store(&i.Path)
				s.log.Error("broker store: damaged file", "file", i.Path, "error", i.Details)
			},
			DiskSlow: func(i pebble.DiskSlowInfo) {
				s.log.Warn("broker store: slow disk", "file", i.Path, "operation", i.OpType.String(), "for", i.Duration)
			},
		},
	}
}

// explain adds to an error of damage which file it is in, and what to do.
func (s *Store) explain(err error) error {
	if !isDamage(err) {
		return err
	}
	where := s.dir
	if file := s.damage.Load(); file != nil {
		where = *file
	}
	return fmt.Errorf("%w: %s: %w; restore %s from a backup, or move it away to begin with an empty store", ErrDamaged, where, err, s.dir)
}

func isDamage(err error) bool {
	return err != nil && (pebble.IsCorruptionError(err) || errors.Is(err, errMalformed))
}

// isSystem tells whether the operating system has refused something.
func isSystem(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}

// quiet is Pebble's log.
type quiet struct{ s *Store }

// fatal is what Fatalf throws in the committer.
type fatal struct{ error }

func (q quiet) Infof(string, ...any) {}

func (q quiet) Errorf(format string, args ...any) {
	q.s.log.Error("broker store: " + fmt.Sprintf(format, args...))
}

// Fatalf is called where Pebble cannot go on, and expects it not to return. The
// committer catches the panic, and the store has failed. In Pebble's own
// goroutines it ends the process: its list of tables could not be written, and
// what the files then mean shows only when they are opened anew. Nothing that
// was said to be done is lost by that.
func (q quiet) Fatalf(format string, args ...any) {
	panic(fatal{fmt.Errorf(format, args...)})
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	return Stats{Groups: s.groups.Load(), Batches: s.batches.Load(), Refused: s.refused.Load(), Damaged: s.damaged.Load()}
}

// Close waits until all that was committed is done, and closes the files. When
// the store has failed it closes nothing, since Pebble could hang: what holds
// the directory then ends with the process.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closing = true
	s.turned.Broadcast()
	s.mu.Unlock()
	close(s.stop)
	s.wake()
	s.running.Wait()
	if s.failed != nil {
		return s.failed
	}
	_ = s.open.batch.Close()
	if err := errors.Join(s.db.Close(), s.lock.Close()); err != nil {
		return fmt.Errorf("close broker store: %w", err)
	}
	return nil
}

func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// short tells whether less than the reserve would be left on the disk after
// writing more bytes.
func (s *Store) short(more int) bool {
	if s.options.Reserve < 0 {
		return false
	}
	u, err := s.disk()
	return err == nil && u.AvailBytes < uint64(s.options.Reserve)+uint64(more)
}

// disk asks how large the disk is, and how full.
func (s *Store) disk() (vfs.DiskUsage, error) {
	fs := s.options.fs
	if fs == nil {
		fs = vfs.Default
	}
	return fs.GetDiskUsage(filepath.Clean(s.dir))
}
