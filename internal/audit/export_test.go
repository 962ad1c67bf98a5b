package audit

// Decode is for tests that change what is stored.
var Decode = decode
