package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of one document or patch.
const (
	MaxBytes  = 64 << 10 // as text
	MaxDepth  = 16       // nested objects and arrays, the document itself included
	MaxValues = 4096     // members of objects and items of arrays, all together
	MaxName   = 256      // bytes of a member's name
	maxDigits = 64       // of a number, its exponent apart
	maxPower  = 400      // of a number's exponent: a little more than float64 has
)

// Object is a document, or a part of one. Its values are Object, []any, string,
// json.Number, bool and, in patches and in arrays only, nil.
type Object map[string]any

// Error says what is wrong with a document, a path or a condition.
type Error struct {
	Path string // of the member at fault; "" for the whole
	Text string // what is wrong, and what would be right
}

// Error returns "path: text".
func (e *Error) Error() string {
	if e.Path == "" {
		return "state: " + e.Text
	}
	return "state: " + e.Path + ": " + e.Text
}

// Parse reads one JSON object of at most MaxBytes: a document, or a patch. A name
// said twice is an error, because two readers could choose differently. Errors
// are *Error. What it returns shares no memory with b.
func Parse(b []byte) (Object, error) {
	if len(b) > MaxBytes {
		return nil, &Error{Text: "is longer than " + strconv.Itoa(MaxBytes) + " bytes"}
	}
	if !utf8.Valid(b) {
		return nil, &Error{Text: "is not valid UTF-8"}
	}
	r := reader{dec: json.NewDecoder(bytes.NewReader(b))}
	r.dec.UseNumber()
	v, err := r.value()
	if err != nil {
		return nil, err
	}
	o, ok := v.(Object)
	if !ok {
		return nil, &Error{Text: "must be a JSON object"}
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, &Error{Text: "has something after its closing brace"}
	}
	return o, nil
}

// reader builds the tree of one document.
type reader struct {
	dec    *json.Decoder
	path   []string
	depth  int
	values int
}

func (r *reader) fail(text string) error { return &Error{Path: JoinPath(r.path...), Text: text} }

func (r *reader) token() (json.Token, error) {
	t, err := r.dec.Token()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, &Error{Text: "ends too early; is it cut off?"}
	}
	if err != nil {
		return nil, &Error{Text: "is not JSON near byte " + strconv.FormatInt(r.dec.InputOffset(), 10)}
	}
	return t, nil
}

func (r *reader) value() (any, error) {
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if r.depth == MaxDepth {
			return nil, r.fail("is nested deeper than " + strconv.Itoa(MaxDepth) + " levels")
		}
		r.depth++
		defer func() { r.depth-- }()
		if t == '{' {
			return r.object()
		}
		return r.array()
	case json.Number:
		if !boundedNumber(string(t)) {
			return nil, r.fail("is a number of more digits than can be compared")
		}
	}
	return t, nil
}

func (r *reader) object() (Object, error) {
	o := Object{}
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, r.fail("has a member without a name")
		}
		if len(name) > MaxName {
			return nil, r.fail("has a name longer than " + strconv.Itoa(MaxName) + " bytes")
		}
		r.path = append(r.path, name)
		if _, twice := o[name]; twice {
			return nil, r.fail("is said twice; say it once")
		}
		if err := r.count(); err != nil {
			return nil, err
		}
		if o[name], err = r.value(); err != nil {
			return nil, err
		}
		r.path = r.path[:len(r.path)-1]
	}
	_, err := r.token() // the closing brace
	return o, err
}

func (r *reader) array() ([]any, error) {
	list := []any{}
	for r.dec.More() {
		if err := r.count(); err != nil {
			return nil, err
		}
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := r.token()
	return list, err
}

func (r *reader) count() error {
	if r.values++; r.values > MaxValues {
		return &Error{Text: "has more than " + strconv.Itoa(MaxValues) + " values"}
	}
	return nil
}

// boundedNumber keeps comparing cheap: an exponent of nine digits would be a
// number of as many.
func boundedNumber(s string) bool {
	digits, power, _ := strings.Cut(strings.ToLower(s), "e")
	n := 0
	if power != "" {
		var err error
		if n, err = strconv.Atoi(power); err != nil {
			return false
		}
	}
	return len(digits) <= maxDigits && -maxPower <= n && n <= maxPower
}

// Equal tells whether two values are the same: objects whatever the order of
// their members, numbers by value.
func Equal(a, b any) bool {
	switch a := a.(type) {
	case Object:
		b, ok := b.(Object)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, v := range a {
			if w, there := b[name]; !there || !Equal(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !Equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && compareNumbers(a, b) == 0
	}
	return a == b
}

// compareNumbers returns -1, 0 or +1. Both are numbers that Parse accepts.
func compareNumbers(a, b json.Number) int {
	if a == b {
		return 0
	}
	if x, err := strconv.ParseInt(string(a), 10, 64); err == nil {
		if y, err := strconv.ParseInt(string(b), 10, 64); err == nil {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	}
	x, _ := new(big.Rat).SetString(string(a))
	y, _ := new(big.Rat).SetString(string(b))
	return x.Cmp(y)
}

// MarshalJSON writes the object without spaces, its members sorted by name.
func (o Object) MarshalJSON() ([]byte, error) { return o.Append(nil), nil }

// UnmarshalJSON reads as Parse does.
func (o *Object) UnmarshalJSON(b []byte) (err error) {
	*o, err = Parse(b)
	return err
}

// String writes the object as JSON.
func (o Object) String() string { return string(o.Append(nil)) }
