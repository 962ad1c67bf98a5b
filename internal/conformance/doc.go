// Package conformance writes docs/conformance.md: for every normative statement
// of MQTT 5.0 and 3.1.1, where it is obeyed and which test shows it. In the same
// way it writes docs/sparkplug-conformance.md, from the citations of sparkplug,
// [tck-id-topic-structure], and the cases of docs/sparkplug-nasty.csv, and
// docs/promises.md, from the tests that cite a clause of a promise by its id. It
// also holds docs/attacks.csv to the tests that are named after its attacks.
//
// There is nothing here but tests. They read the lists of statements in
// docs/conformance, and collect the citations, [MQTT-3.1.0-1] for MQTT 5.0 and
// [MQTT-3.1.0-1 v3.1.1] for 3.1.1, from the comments and names of the packages
// that speak MQTT: those in a file that is not a test say who obeys the
// statement, those in a test, or in a script under testdata, say what shows it.
// A citation belongs to the function or declaration around it. A statement that
// both versions make, and that the same code obeys, is cited once: see twins.
package conformance
