// Package spjson is the JSON form of Sparkplug values, both ways: as the API shows
// them, as reports have them, and as a command asks for them.
//
//	Int8 … UInt64     a number                    Boolean   true, false
//	Float, Double     a number, "NaN", "+Inf", "-Inf"
//	String, Text, UUID a text                     Bytes, File  a text in base64
//	DateTime          milliseconds since 1970; RFC 3339 is read as well
//	arrays            a list of the above         null      null
//	DataSet           {"columns": [], "types": [], "rows": [[]]}
//	Template          {"ref", "version", "definition", "members": [{"name", "datatype", "value"}], "parameters"}
//	PropertySet       {key: {"datatype", "value"}}
//
// A DataSet is read as it is shown, whole; a cell that is null says nothing. Of a Template
// that is read, a part of the members will do, and their definition says their datatypes.
// A PropertySet is shown, and not read.
//
// It is pure, keeps nothing, and is safe for concurrent use.
package spjson
