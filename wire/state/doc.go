// Package state is the documents of a device's state: how they are read,
// merged, compared and asked.
//
//	desired ──Merge(patch)──▶ desired ─┐
//	                                   ├─ Delta ─▶ what the device has yet to do
//	reported ─Merge(patch)──▶ reported ┘
//
// A document is one JSON object. Documents are changed by merge patches
// (RFC 7396): a member of the patch takes the place of the member of that name,
// objects are merged member by member, null takes a member away, and arrays are
// replaced as a whole. A document itself therefore holds no null outside of
// arrays.
//
// What is neither an object nor absent is a leaf; so is the object that has no
// members. A leaf is named by its path: the names on the way to it, joined by
// dots. In a name that holds them, "~" is written "~0" and "." is written "~1".
//
// Numbers keep the digits they came with, and are compared by value: 1, 1.0 and
// 10e-1 are equal, and so are no two integers that differ, however large.
//
// The package is pure. An [Object] and what it holds must not be written to once
// it was given out: documents share what they have in common. All functions are
// safe for concurrent use.
package state
