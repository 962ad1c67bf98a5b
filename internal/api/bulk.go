package api

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
)

const ndjson = "application/x-ndjson"

// bulk registers the creation of many commands with one request. It reads and
// writes JSON by hand: a thousand commands cost it about as much as ten that go
// through reflection.
func (a *API) bulk() {
	item, result := schemaOf[client.BulkOrder](a), schemaOf[client.BulkResult](a)
	array := func(s *huma.Schema) *huma.MediaType {
		return &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeArray, Items: s}}
	}
	a.plain(&huma.Operation{Method: http.MethodPost, Path: "/v1/commands", OperationID: "sendBulk", Tags: []string{"commands"},
		Summary: "Ask many devices at once",
		Description: "At most 1,000 items, as a JSON array or as lines of JSON. The answer has one result an item, in the same " +
			"order and form. Items stand for themselves: one that is refused does not touch the others. What is not JSON is " +
			"refused as a whole, and nothing is made.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": array(item), ndjson: {Schema: item}}},
		Responses: map[string]*huma.Response{"200": {Description: "What became of each item",
			Content: map[string]*huma.MediaType{"application/json": array(result), ndjson: {Schema: result}}}},
	}, a.sendBulk, withBody(bulkBytes))
}

func (a *API) sendBulk(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Idempotency-Key") != "" {
		fail(w, fault.Field("Idempotency-Key", "is for single commands; give each item its own key in the field key"))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, err)
		return
	}
	t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	reader := bulkReader{b: body, lines: t == ndjson}
	orders, err := reader.orders()
	if err != nil {
		fail(w, err)
		return
	}
	made, err := a.svc.SendBulk(r.Context(), caller(r.Context()), orders)
	if err != nil {
		fail(w, err)
		return
	}
	a.count.created.Add(float64(len(made)))
	out := appendResults(make([]byte, 0, 96*len(made)+2), made, reader.lines)
	w.Header().Set("Content-Type", "application/json")
	if reader.lines {
		w.Header().Set("Content-Type", ndjson)
	}
	_, _ = w.Write(out) // whoever asked is gone if this fails
}

func appendResults(b []byte, made []service.Created, lines bool) []byte {
	if lines {
		for i := range made {
			b = append(appendResult(b, &made[i]), '\n')
		}
		return b
	}
	b = append(b, '[')
	for i := range made {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendResult(b, &made[i])
	}
	return append(b, ']', '\n')
}

// appendResult writes a client.BulkResult.
func appendResult(b []byte, m *service.Created) []byte {
	if m.Err != nil {
		p := problemOf(m.Err)
		b = append(b, `{"status":`...)
		b = strconv.AppendInt(b, int64(p.Status), 10)
		doc, err := json.Marshal((*client.Error)(p))
		if err == nil { // strings and numbers always can be
			b = append(b, `,"error":`...)
			b = append(b, doc...)
		}
		return append(b, '}')
	}
	if m.Existed {
		b = append(b, `{"status":200,"replayed":true,"tid":"`...)
	} else {
		b = append(b, `{"status":202,"tid":"`...)
	}
	b = appendTID(b, m.Command.TID)
	b = append(b, `","state":"`...)
	b = append(b, m.Command.State...)
	b = append(b, '"')
	if w := warning(m); w != "" {
		text, _ := json.Marshal(w) // a string always can be
		b = append(append(b, `,"warning":`...), text...)
	}
	return append(b, '}')
}

func appendTID(b []byte, t command.TID) []byte {
	for i, group := range [...][]byte{t[:4], t[4:6], t[6:8], t[8:10], t[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, group)
	}
	return b
}

// bulkReader reads the orders of a bulk request. It looks at structure only as
// far as it must to find the values; each value is checked by what takes it, the
// policy and params by the service.
type bulkReader struct {
	b     []byte
	i     int
	lines bool
}

// orders reads all items. Its error means that the request as a whole is wrong;
// what is wrong with one item is in its order.
func (r *bulkReader) orders() ([]service.Order, error) {
	if r.lines {
		return r.ndjson()
	}
	if !r.take('[') {
		return nil, r.broken(0, "must be a JSON array of commands")
	}
	var out []service.Order
	if r.take(']') {
		return out, r.end(0)
	}
	for {
		o, err := r.item(len(out))
		if err != nil {
			return nil, err
		}
		if out = append(out, o); len(out) > service.MaxBulk {
			return nil, tooLong()
		}
		if r.take(']') {
			return out, r.end(len(out))
		}
		if !r.take(',') {
			return nil, r.broken(len(out), "expected , or ] after the item before")
		}
	}
}

func (r *bulkReader) ndjson() ([]service.Order, error) {
	var out []service.Order
	all := r.b
	for n := 0; len(all) > 0; n++ {
		line, rest, _ := bytes.Cut(all, []byte{'\n'})
		all = rest
		r.b, r.i = line, 0
		if r.space(); r.i == len(r.b) {
			continue // blank
		}
		if len(out) == service.MaxBulk {
			return nil, tooLong()
		}
		o, err := r.item(n)
		if err == nil {
			err = r.end(n)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

func tooLong() error {
	return fault.New(fault.TooLarge, "more than %d commands; send them in several requests", service.MaxBulk)
}

// broken is the error of a request that is no JSON.
func (r *bulkReader) broken(item int, text string) error {
	return fault.Field("["+strconv.Itoa(item)+"]", "%s (at byte %d)", text, r.i)
}

func (r *bulkReader) end(item int) error {
	if r.space(); r.i < len(r.b) {
		return r.broken(item, "something follows the end")
	}
	return nil
}

// The fields of an item, by their bit in the set of those that were seen.
var itemFields = [...]string{"device", "name", "params", "policy", "key", "priority"}

// item reads one object.
func (r *bulkReader) item(n int) (service.Order, error) {
	o := service.Order{}
	if !r.take('{') {
		return o, r.broken(n, "must be a JSON object")
	}
	if r.take('}') {
		o.Err = fault.Field("device", "missing; write group/device")
		return o, nil
	}
	seen := 0
	for {
		key, err := r.text(n)
		if err != nil {
			return o, err
		}
		if !r.take(':') {
			return o, r.broken(n, "expected : after a field's name")
		}
		value, ok := r.value()
		if !ok {
			return o, r.broken(n, "is not JSON")
		}
		if o.Err == nil {
			o.Err = r.field(&o, key, value, &seen)
		}
		if r.take('}') {
			break
		}
		if !r.take(',') {
			return o, r.broken(n, "expected , or } after a value")
		}
	}
	if o.Err == nil && o.Device.Group == "" {
		o.Err = fault.Field("device", "missing; write group/device")
	}
	return o, nil
}

// field puts one value in its place.
func (r *bulkReader) field(o *service.Order, key string, value []byte, seen *int) error {
	bit := -1
	for i, f := range itemFields {
		if f == key {
			bit = i
		}
	}
	if bit < 0 {
		return fault.Field(cut(key), "unknown field")
	}
	if *seen&(1<<bit) != 0 {
		return fault.Field(key, "given twice")
	}
	*seen |= 1 << bit
	if string(value) == "null" {
		return nil
	}
	switch key {
	case "params":
		// A copy: the engine keeps commands, and must not keep this body with them.
		o.Params = bytes.Clone(value)
		return nil
	case "policy":
		o.Policy = value
		return nil
	case "priority":
		n, err := strconv.Atoi(string(value))
		if err != nil {
			return fault.Field("priority", "must be a whole number")
		}
		o.Priority = &n
		return nil
	}
	s, ok := unquote(value)
	if !ok {
		return fault.Field(key, "must be a string")
	}
	switch key {
	case "device":
		if err := o.Device.UnmarshalText([]byte(s)); err != nil {
			return fault.Field("device", "must be group/device, each 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
		}
	case "name":
		o.Name = s
	case "key":
		o.Key = s
	}
	return nil
}

func cut(s string) string { return s[:min(len(s), 64)] }

func (r *bulkReader) space() {
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return
		}
	}
}

// take passes white space and then c, if it is there.
func (r *bulkReader) take(c byte) bool {
	r.space()
	if r.i < len(r.b) && r.b[r.i] == c {
		r.i++
		return true
	}
	return false
}

// text reads a string.
func (r *bulkReader) text(n int) (string, error) {
	r.space()
	if r.i < len(r.b) && r.b[r.i] == '"' {
		if raw, ok := r.value(); ok {
			if s, ok := unquote(raw); ok {
				return s, nil
			}
		}
	}
	return "", r.broken(n, "expected a field's name in quotes")
}

// value finds the end of one value. That brackets match in kind and that
// numbers and words are right is left to those who read it.
func (r *bulkReader) value() ([]byte, bool) {
	r.space()
	begin, depth := r.i, 0
	for r.i < len(r.b) {
		switch c := r.b[r.i]; c {
		case '"':
			if !r.skipString() {
				return nil, false
			}
			if depth == 0 {
				return r.b[begin:r.i], true
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return r.b[begin:r.i], r.checked(begin)
			}
			if depth--; depth == 0 {
				r.i++
				return r.b[begin:r.i], true
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return r.b[begin:r.i], r.checked(begin)
			}
		}
		r.i++
	}
	return nil, false
}

// checked says whether the number or word that begins there is one: it may be
// in a field that nobody reads.
func (r *bulkReader) checked(begin int) bool { return json.Valid(r.b[begin:r.i]) }

// skipString passes a string, whose first quote is next.
func (r *bulkReader) skipString() bool {
	for r.i++; r.i < len(r.b); r.i++ {
		switch r.b[r.i] {
		case '\\':
			r.i++
		case '"':
			r.i++
			return true
		}
	}
	return false
}

// unquote gives the text of a JSON string.
func unquote(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	for _, c := range raw {
		if c == '\\' || c < 0x20 || c >= 0x80 {
			var s string
			err := json.Unmarshal(raw, &s)
			return s, err == nil
		}
	}
	return string(raw[1 : len(raw)-1]), true
}
