package device

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/wire/state"
)

// Reports that wait become fewer, and say the same.
func TestReportsThatWaitSayTheSame(t *testing.T) {
	value := rapid.Deferred(func() *rapid.Generator[any] { return values(3) })
	document := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b"}), value, 0, 2)
	rapid.Check(t, func(t *rapid.T) {
		want := state.Merge(nil, document.Draw(t, "server"))
		got, c := want, &replica{reported: state.Object{}}
		for i, n := 0, rapid.IntRange(1, 5).Draw(t, "reports"); i < n; i++ {
			patch := state.Object(document.Draw(t, "patch"))
			want = state.Merge(want, patch)
			if err := c.report(patch, true); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "back") {
				if patch := c.take(); patch != nil {
					c.giveBack(patch)
				}
			}
		}
		for patch := c.take(); patch != nil; patch = c.take() {
			got = state.Merge(got, patch)
		}
		if !state.Equal(got, want) {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

// values gives null, a number, or an object of such.
func values(depth int) *rapid.Generator[any] {
	leaves := rapid.SampledFrom([]any{nil, true, "x"})
	if depth == 0 {
		return leaves
	}
	objects := rapid.Map(rapid.MapOfN(rapid.SampledFrom([]string{"a", "b"}), values(depth-1), 0, 2),
		func(m map[string]any) any { return state.Object(m) })
	return rapid.OneOf(leaves, objects)
}
