package wire

import (
	"encoding/json"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads one flat JSON document (RFC 8259) without allocating for what
// is skipped. The first mistake is kept in err and ends the reading: every
// method after that does nothing, so callers look at err once, at the end.
type scanner struct {
	b     []byte
	i     int    // next byte
	depth int    // objects and arrays open at i
	path  string // of the object being read, with a dot at the end; "" for the document
	field string // the field being read, for errors
	err   *Error
}

// scan checks what concerns the payload as a whole.
func scan(payload []byte) scanner {
	s := scanner{b: payload}
	switch {
	case len(payload) > MaxDocument:
		s.err = &Error{Field: "document", Text: "is longer than " + strconv.Itoa(MaxDocument) + " bytes"}
	case !utf8.Valid(payload):
		s.err = &Error{Field: "document", Text: "is not valid UTF-8"}
	}
	return s
}

// document reads the outermost object: read is called for each known field
// that is not null, with s standing before its value, and must consume it.
func (s *scanner) document(known []string, read func(field string)) {
	s.space()
	if s.peek() != '{' {
		s.fail("document", "must be a JSON object")
		return
	}
	s.object(known, read)
	s.space()
	if s.err == nil && s.i < len(s.b) {
		s.fail("document", "has something after its closing brace")
	}
}

// object reads an object, for document or for a field whose value is one.
func (s *scanner) object(known []string, read func(field string)) {
	if s.peek() != '{' {
		s.wrong("must be an object")
		return
	}
	if !s.enter() {
		return
	}
	path := s.path
	if s.field != "" {
		s.path += s.field + "."
	}
	var seen uint32
	for first := true; ; first = false {
		s.space()
		if first && s.peek() == '}' {
			s.i++
			break
		}
		k := s.index(s.key(), known)
		if s.err != nil {
			return
		}
		s.value(k, known, &seen, read)
		s.space()
		c := s.peek()
		s.i++
		if c == '}' {
			break
		}
		if c != ',' {
			s.syntax()
			return
		}
	}
	s.path = path
	s.depth--
}

// value reads the value after a key: known[k], or one to skip when k is -1.
func (s *scanner) value(k int, known []string, seen *uint32, read func(field string)) {
	if k < 0 {
		s.skip()
		return
	}
	s.field = known[k]
	if *seen&(1<<k) != 0 {
		s.wrong("is said twice; say it once")
		return
	}
	*seen |= 1 << k
	if s.peek() == 'n' {
		s.literal("null")
		return
	}
	read(known[k])
}

// key reads a member's name and the colon after it.
func (s *scanner) key() []byte {
	raw, escaped := s.quoted()
	if escaped {
		raw = unescape(raw)
	}
	s.space()
	if s.err == nil && s.peek() != ':' {
		s.syntax()
		return nil
	}
	s.i++
	s.space()
	return raw
}

func (s *scanner) index(key []byte, known []string) int {
	for i, k := range known {
		if string(key) == k {
			return i
		}
	}
	return -1
}

// text reads a string value.
func (s *scanner) text() string {
	raw, escaped := s.stringValue()
	if !escaped {
		return string(raw)
	}
	raw = unescape(raw)
	for _, c := range raw {
		if c == 0 {
			s.wrong("holds the character U+0000; leave it out")
			return ""
		}
	}
	return string(raw)
}

// stringValue reads a string value as it stands between its quotes.
func (s *scanner) stringValue() (raw []byte, escaped bool) {
	if s.err == nil && s.peek() != '"' {
		s.wrong("must be a string")
		return nil, false
	}
	return s.quoted()
}

// quoted reads a string. What it returns borrows the payload; escapes are
// checked but still there.
func (s *scanner) quoted() (raw []byte, escaped bool) {
	if s.peek() != '"' {
		s.syntax()
		return nil, false
	}
	s.i++
	start := s.i
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start : s.i-1], escaped
		case c < 0x20:
			s.syntax()
			return nil, false
		case c == '\\':
			escaped = true
			n := escapeLen(s.b[s.i:])
			if n == 0 {
				s.syntax()
				return nil, false
			}
			s.i += n
		default:
			s.i++
		}
	}
	s.syntax()
	return nil, false
}

// escapeLen returns the length of the escape that b begins with, or 0.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		if _, ok := hex4(b[2:6]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (r rune, ok bool) {
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape decodes a string whose escapes have been checked. Half a surrogate
// pair becomes U+FFFD.
func unescape(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '\\' {
			out = append(out, c)
			i++
			continue
		}
		c = raw[i+1]
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(raw[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if len(raw)-i >= 6 && raw[i] == '\\' && raw[i+1] == 'u' {
					low, _ := hex4(raw[i+2:])
					pair = utf16.DecodeRune(r, low)
				}
				if pair != utf8.RuneError {
					i += 6
				}
				r = pair
			}
			out = utf8.AppendRune(out, r)
			continue
		}
		out = append(out, c)
	}
	return out
}

// integer reads a whole number that is not negative.
func (s *scanner) integer() int64 {
	n, err := strconv.ParseInt(string(s.number()), 10, 64)
	if s.err == nil && (err != nil || n < 0) {
		s.wrong("must be a whole number, not negative, of at most 63 bits")
	}
	return n
}

// float reads a number.
func (s *scanner) float() float64 {
	f, err := strconv.ParseFloat(string(s.number()), 64)
	if s.err == nil && err != nil {
		s.wrong("is too large a number")
	}
	return f
}

// number reads a number as it stands.
func (s *scanner) number() []byte {
	if c := s.peek(); s.err == nil && c != '-' && (c < '0' || c > '9') {
		s.wrong("must be a number")
		return nil
	}
	start := s.i
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else {
		s.digits()
	}
	if s.peek() == '.' {
		s.i++
		s.digits()
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		s.digits()
	}
	if s.err != nil {
		return nil
	}
	return s.b[start:s.i]
}

// digits reads one digit or more.
func (s *scanner) digits() {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	if s.i == start {
		s.syntax()
	}
}

// boolean reads true or false.
func (s *scanner) boolean() bool {
	switch s.peek() {
	case 't':
		s.literal("true")
		return true
	case 'f':
		s.literal("false")
	default:
		s.wrong("must be true or false")
	}
	return false
}

func (s *scanner) literal(word string) {
	if s.err != nil {
		return
	}
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		s.syntax()
		return
	}
	s.i += len(word)
}

// raw reads any value as it stands, at most MaxValue bytes of it.
func (s *scanner) raw() json.RawMessage {
	start := s.i
	s.skip()
	if s.err != nil {
		return nil
	}
	if s.i-start > MaxValue {
		s.wrong("is longer than " + strconv.Itoa(MaxValue) + " bytes")
		return nil
	}
	return json.RawMessage(s.b[start:s.i:s.i])
}

// skip reads over any value, checking its syntax.
func (s *scanner) skip() {
	switch c := s.peek(); c {
	case '"':
		s.quoted()
	case '{', '[':
		s.skipNested(c)
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		if c != '-' && (c < '0' || c > '9') {
			s.syntax()
			return
		}
		s.number()
	}
}

func (s *scanner) skipNested(open byte) {
	if !s.enter() {
		return
	}
	closing := open + 2 // '{' and '}', '[' and ']' are two apart in ASCII
	s.space()
	if s.peek() == closing {
		s.i++
		s.depth--
		return
	}
	for s.err == nil {
		s.space()
		if open == '{' {
			s.key()
		}
		s.skip()
		s.space()
		c := s.peek()
		s.i++
		if c == closing {
			s.depth--
			return
		}
		if c != ',' {
			s.syntax()
		}
	}
}

// array reads an array of strings, each by read.
func (s *scanner) array(read func()) {
	if s.peek() != '[' {
		s.wrong("must be an array")
		return
	}
	if !s.enter() {
		return
	}
	s.space()
	if s.peek() == ']' {
		s.i++
		s.depth--
		return
	}
	for s.err == nil {
		s.space()
		read()
		s.space()
		c := s.peek()
		s.i++
		if c == ']' {
			s.depth--
			return
		}
		if c != ',' {
			s.syntax()
		}
	}
}

// enter steps over an opening bracket.
func (s *scanner) enter() bool {
	if s.err != nil {
		return false
	}
	if s.depth == MaxDepth {
		s.fail("document", "is nested deeper than "+strconv.Itoa(MaxDepth)+" levels")
		return false
	}
	s.depth++
	s.i++
	return true
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0, which no JSON token begins with, at the
// end and after a mistake.
func (s *scanner) peek() byte {
	if s.err != nil || s.i >= len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *scanner) syntax() {
	if s.i >= len(s.b) {
		s.fail("document", "ends too early; is it cut off?")
		return
	}
	s.fail("document", "is not JSON at byte "+strconv.Itoa(s.i))
}

// wrong blames the field being read.
func (s *scanner) wrong(text string) { s.fail(s.path+s.field, text) }

func (s *scanner) fail(field, text string) {
	if s.err == nil {
		s.err = &Error{Field: field, Text: text}
	}
}

// validValue tells whether raw is one JSON value that fits into a document.
func validValue(raw []byte) *Error {
	s := scan(raw)
	s.depth = 1 // the document around it
	s.space()
	s.skip()
	s.space()
	if s.err == nil && s.i < len(raw) {
		s.syntax()
	}
	return s.err
}
