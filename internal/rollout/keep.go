package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// piece is up to plan.ChunkSize targets.
type piece struct {
	who        []wire.Address
	of         []command.TID // in a roll-out that takes back: the commands taken back
	tids       []command.TID // zero: there is none, or it is not known
	why        []skipped
	version    int64 // of the document of the states; 0: there is none yet
	whoVersion int64 // of the document of who they are
}

// skipped is why a target has no command. Stored; never change the numbers.
type skipped byte

const (
	notSkipped skipped = iota
	skipGone
	skipDisabled
	skipRefused
	skipNoUndo
	skipAborted
	skipChanged
	skipUnmade
	skipUnsure
)

var skipTexts = []string{"", "the device is not registered any more", "the device is disabled", "the command was refused",
	"it cannot be taken back: nothing is recorded, or it is as it was", "the roll-out was aborted first",
	"others have changed the same values since, or are about to", "no command could be made; an alarm says why",
	"it cannot be told whether its command was made; an alarm says why"}

func (s skipped) String() string {
	if int(s) < len(skipTexts) {
		return skipTexts[s]
	}
	return ""
}

// cellSize is the bytes of one target in the document of states: its state, why, and
// its tid. Stored; never change.
const cellSize = 2 + 16

// The two documents of a piece. Stored; never change.
const (
	leafDevices = "devices"
	leafState   = "state"
)

func rolloutDoc(id string) store.DocumentID { return store.DocumentID{Kind: kindRollout, Key: id} }

func targetDoc(id string, piece int, leaf string) store.DocumentID {
	return store.DocumentID{Kind: kindTarget, Key: fmt.Sprintf("%s/%06d/%s", id, piece, leaf)}
}

// piecesOf cuts targets. of may be nil.
func piecesOf(who []wire.Address, of []command.TID) []*piece {
	var list []*piece
	for at := 0; at < len(who); at += plan.ChunkSize {
		end := min(at+plan.ChunkSize, len(who))
		p := &piece{}
		p.add(who[at:end])
		if of != nil {
			p.of = of[at:end]
		}
		list = append(list, p)
	}
	return list
}

func (p *piece) add(who []wire.Address) {
	p.who = append(slices.Clip(p.who), who...)
	p.tids = append(p.tids, make([]command.TID, len(who))...)
	p.why = append(p.why, make([]skipped, len(who))...)
}

// whoBody is a line for each target: its address, and the tid that is taken back.
func (p *piece) whoBody() []byte {
	var b bytes.Buffer
	for i, a := range p.who {
		b.WriteString(a.String())
		if p.of != nil {
			b.WriteByte(' ')
			b.WriteString(p.of[i].String())
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func (p *piece) readWho(body []byte) error {
	for line := range strings.Lines(string(body)) {
		name, tid, undo := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		a, err := wire.ParseAddress(name)
		if err != nil {
			return err
		}
		p.add([]wire.Address{a})
		if undo {
			var of command.TID
			if err := of.UnmarshalText([]byte(tid)); err != nil {
				return err
			}
			p.of = append(p.of, of)
		}
	}
	return nil
}

func (p *piece) stateBody(cells *[plan.ChunkSize]plan.Cell) []byte {
	b := make([]byte, 0, len(p.who)*cellSize)
	for i := range p.who {
		b = append(b, byte(cells[i]), byte(p.why[i]))
		b = append(b, p.tids[i][:]...)
	}
	return b
}

// readState reads what may be shorter than who: targets were found since.
func (p *piece) readState(body []byte, cells *[plan.ChunkSize]plan.Cell) error {
	if len(body)%cellSize != 0 || len(body)/cellSize > len(p.who) {
		return fmt.Errorf("%d bytes for %d targets", len(body), len(p.who))
	}
	for i := 0; len(body) > 0; i++ {
		cells[i], p.why[i] = plan.Cell(body[0]), skipped(body[1])
		if cells[i] != plan.Starting { // else it is asked for again, by its key
			copy(p.tids[i][:], body[2:cellSize])
		}
		body = body[cellSize:]
	}
	return nil
}

// writes are the documents that the step from run to next changes.
func (run *run) writes(next *plan.Rollout) ([]store.DocumentWrite, error) {
	body, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("roll-out %s: %w", next.ID, err)
	}
	list := []store.DocumentWrite{{DocumentID: rolloutDoc(next.ID), Was: run.version, Body: body}}
	for i, p := range run.pieces {
		if i >= len(run.Cells) || run.Cells[i] != next.Cells[i] { // a change copies its piece
			list = append(list, store.DocumentWrite{DocumentID: targetDoc(next.ID, i, leafState), Was: p.version, Body: p.stateBody(next.Cells[i])})
		}
	}
	return list, nil
}

// adopt takes over what was committed.
func (run *run) adopt(next plan.Rollout, actions []plan.Action) {
	run.version++
	for i, p := range run.pieces {
		if i >= len(run.Cells) || run.Cells[i] != next.Cells[i] {
			p.version++
		}
	}
	run.Rollout = next
	run.todo = append(run.todo, actions...)
}

// load reads the roll-outs that can still change.
func (r *Runner) load(ctx context.Context) error {
	for after := ""; ; {
		page, err := r.opt.Store.Documents(ctx, kindRollout, "", after, 100)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			after = page[i].Key
			if err := r.takeUp(ctx, &page[i]); err != nil {
				return err
			}
		}
	}
}

func decode(d *store.Document) (*run, error) {
	run := &run{version: d.Version}
	if err := json.Unmarshal(d.Body, &run.Rollout); err != nil {
		return nil, fmt.Errorf("%s: %w", d.DocumentID, err)
	}
	err := run.Sound(MaxTargets)
	if err == nil && run.ID != d.Key {
		err = fmt.Errorf("it calls itself %q", run.ID)
	}
	if err == nil {
		run.Zones, err = zonesOf(&run.Spec)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.DocumentID, err)
	}
	return run, nil
}

// readTargets reads the pieces of a roll-out.
func (r *Runner) readTargets(ctx context.Context, run *run) error {
	run.Cells = plan.NewCells(run.Total)
	for after := ""; ; {
		page, err := r.opt.Store.Documents(ctx, kindTarget, run.ID+"/", after, 100)
		if err != nil {
			return err
		}
		for i := range page {
			after = page[i].Key
			if err := run.readTarget(&page[i]); err != nil {
				return err
			}
		}
		if len(page) == 0 {
			break
		}
	}
	n := 0
	for _, p := range run.pieces {
		n += len(p.who)
	}
	if n != run.Total {
		return fmt.Errorf("%d targets of %d are there", n, run.Total)
	}
	for i, p := range run.pieces {
		if i < len(run.pieces)-1 && len(p.who) != plan.ChunkSize || p.of != nil && len(p.of) != len(p.who) || p.of == nil && run.Undoes != "" {
			return fmt.Errorf("piece %d has %d targets, and takes back %d commands", i, len(p.who), len(p.of))
		}
	}
	return run.SoundCells()
}

// readTarget takes in one document of a piece. That of who they are comes first, which
// is the order of the keys.
func (run *run) readTarget(d *store.Document) (err error) {
	n, leaf := 0, ""
	if _, err := fmt.Sscanf(d.Key[len(run.ID):], "/%06d/%s", &n, &leaf); err != nil || n < 0 || n >= len(run.Cells) {
		return fmt.Errorf("%s belongs to nothing", d.DocumentID)
	}
	for len(run.pieces) <= n {
		run.pieces = append(run.pieces, &piece{})
	}
	p := run.pieces[n]
	switch leaf {
	case leafDevices:
		err, p.whoVersion = p.readWho(d.Body), d.Version
	case leafState:
		err, p.version = p.readState(d.Body, run.Cells[n]), d.Version
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.DocumentID, err)
	}
	return nil
}

// zonesOf loads the time zones of the windows.
func zonesOf(s *plan.Spec) (map[string]*time.Location, error) {
	zones := map[string]*time.Location{}
	for _, w := range s.Windows {
		z, err := time.LoadLocation(w.Zone)
		if err != nil {
			return nil, err
		}
		zones[w.Zone] = z
	}
	return zones, nil
}

// GroupsOf are the groups of devices, sorted.
func GroupsOf(who []wire.Address) []string {
	set := map[string]struct{}{}
	for _, a := range who {
		set[a.Group] = struct{}{}
	}
	return slices.Sorted(maps.Keys(set))
}
