// Package archtest keeps the shape of the module: which package may import
// which, what the pure cores stay away from, and a few habits of the code that
// a reader counts on.
//
// There is nothing here but tests. They parse the source files themselves, so
// that a change in any package is seen; go list would answer out of the test
// cache. The rules are data: the table of packages is in layers_test.go, the
// rules are in rules_test.go, and proof_test.go shows of every rule that it
// finds what it forbids.
package archtest
