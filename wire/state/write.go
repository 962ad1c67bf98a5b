package state

import (
	"encoding/json"
	"slices"
	"strconv"
)

// Append appends the object to dst as JSON, without spaces, its members sorted by
// name.
func (o Object) Append(dst []byte) []byte {
	var room [32]string
	names := room[:0]
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, name), ':')
		dst = appendValue(dst, o[name])
	}
	return append(dst, '}')
}

func appendValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case Object:
		return v.Append(dst)
	case []any:
		dst = append(dst, '[')
		for i := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, v[i])
		}
		return append(dst, ']')
	case string:
		return appendString(dst, v)
	case json.Number:
		return append(dst, v...)
	case bool:
		return strconv.AppendBool(dst, v)
	}
	return append(dst, "null"...)
}

// appendString escapes what JSON asks for, and no more.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		if c >= 0x20 {
			dst = append(dst, '\\', c)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
	}
	return append(append(dst, s[start:]...), '"')
}

// Check tells whether the object is within the limits that Parse has for text. A
// document that grows by patches needs that; its depth cannot grow beyond that of
// its patches.
func (o Object) Check() error {
	bytes, values := size(o)
	if bytes > MaxBytes {
		return &Error{Text: "would be longer than " + strconv.Itoa(MaxBytes) + " bytes"}
	}
	if values > MaxValues {
		return &Error{Text: "would have more than " + strconv.Itoa(MaxValues) + " values"}
	}
	return nil
}

// size is the length of what Append writes, and the number of values in v.
func size(v any) (bytes, values int) {
	switch v := v.(type) {
	case Object:
		for name, inner := range v {
			b, n := size(inner)
			bytes, values = bytes+quoted(name)+2+b, values+1+n
		}
		return max(bytes+1, 2), values
	case []any:
		for _, inner := range v {
			b, n := size(inner)
			bytes, values = bytes+b+1, values+1+n
		}
		return max(bytes+1, 2), values
	case string:
		return quoted(v), 0
	case json.Number:
		return len(v), 0
	case bool:
		if v {
			return 4, 0
		}
		return 5, 0
	}
	return 4, 0
}

func quoted(s string) int {
	n := len(s) + 2
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			n++
		case c < 0x20:
			n += 5
		}
	}
	return n
}
