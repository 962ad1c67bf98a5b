// Package catalog is command types: what a command of a name means, what goes
// into it and comes out of it, how long it may take, who must agree to it.
//
//	YAML or JSON ──Parse──▶ Type ──Compile──▶ Checked: Params, Result
//	                          │
//	                 Next: another content under the same name is the next version
//
// A type is immutable. A command keeps what its type said when it was made, so
// that a type that is changed later changes nothing that is under way.
//
// It touches neither clock, disk nor network. Types and Checked are safe for
// concurrent use as long as nobody writes to them.
package catalog
