package plan

import "github.com/wilco-iot/wilco/internal/command"

// Cell is the state of one target. Stored; never change the numbers.
type Cell byte

// The states of a target.
const (
	Waiting  Cell = iota
	Starting      // its command is to be made
	Open          // its command is made and has not ended
	Executed
	Failed
	Rejected
	Expired
	Cancelled
	NotAllowed // denied: by a precondition, say
	TimedOut   // outcome unknown: a late answer still settles it
	Skipped    // there is no command for it

	nCells
)

var cellNames = [nCells]string{"waiting", "starting", "open", string(command.Executed), string(command.Failed), string(command.Rejected),
	string(command.Expired), string(command.Cancelled), string(command.Denied), string(command.TimedOut), "skipped"}

func (c Cell) String() string {
	if c < nCells {
		return cellNames[c]
	}
	return "unknown"
}

// CellNames lists the states of targets, in the order of their numbers.
func CellNames() []string { return cellNames[:] }

// CellOf is the state of a target whose command is in state s.
func CellOf(s command.State) Cell {
	for c := Executed; c <= TimedOut; c++ {
		if cellNames[c] == string(s) {
			return c
		}
	}
	return Open
}

// ended says whether a target takes no place any more.
func (c Cell) ended() bool { return c >= Executed && c < nCells }

// ChunkSize is how many targets are kept together. Stored; never change.
const ChunkSize = 1024

// Cells are the states of targets, in pieces of ChunkSize: a change copies its piece
// and shares the others.
type Cells []*[ChunkSize]Cell

// NewCells gives n targets that wait.
func NewCells(n int) Cells {
	c := make(Cells, (n+ChunkSize-1)/ChunkSize)
	for i := range c {
		c[i] = new([ChunkSize]Cell)
	}
	return c
}

// At is the state of target i.
func (c Cells) At(i int) Cell { return c[i/ChunkSize][i%ChunkSize] }
