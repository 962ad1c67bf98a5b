package api

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzBulkReader compares the hand-written reader with encoding/json: what the
// reader takes without a complaint must be JSON, and mean the same.
func FuzzBulkReader(f *testing.F) {
	for _, s := range []string{`[]`, `[{}]`, `[{"device":"a/b","name":"n"}]`, `[{"device":"a/b","name":"n","params":{"x":[1,"]"]},"policy":{"ackBy":"1s"},"key":"k"}]`,
		` [ { "device" : "a\/b" , "name" : null } , { "device":"a/b","params":-1.5e3 } ] `, `[{"device":"a/b","name":"\u006e","params":[{]}]`, `[1]`, `[{"a":tru}]`,
		`[{"device":"a/b","name":"n"`, `[{"device":"a/b","policy":{"ackBy":5}}]`, `[{"device":"a/b","priority":-9}]`, `[{"device":"a/b",}]`, "[{\"device\":\"a/b\"}]\x00", `[{"device":"a/b","key":"\ud800"}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := bulkReader{b: body}
		orders, err := r.orders()
		if err != nil {
			return
		}
		for _, o := range orders {
			if o.Err != nil || o.Params != nil && !json.Valid(o.Params) || o.Policy != nil && !json.Valid(o.Policy) { // which the service refuses
				return
			}
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		var want []struct {
			Device, Name, Key string
			Params, Policy    json.RawMessage
			Priority          *int
		}
		if err := d.Decode(&want); err != nil {
			t.Fatalf("taken, but %v: %q", err, body)
		}
		if len(want) != len(orders) {
			t.Fatalf("%d orders, want %d: %q", len(orders), len(want), body)
		}
		for i, o := range orders {
			some := func(raw json.RawMessage) json.RawMessage {
				if string(raw) == "null" {
					return nil
				}
				return raw
			}
			if o.Device.String() != want[i].Device || o.Name != want[i].Name || o.Key != want[i].Key ||
				!bytes.Equal(o.Params, some(want[i].Params)) || !bytes.Equal(o.Policy, some(want[i].Policy)) || !reflect.DeepEqual(o.Priority, want[i].Priority) {
				t.Fatalf("item %d of %q: got %+v, want %+v", i, body, o, want[i])
			}
		}
	})
}

// FuzzBulkLines never panics, and takes no more orders than there are lines.
func FuzzBulkLines(f *testing.F) {
	f.Add([]byte("{}\n{}\r\n\n{\"device\":\"a/b\"}"))
	f.Add([]byte("[{}]\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := bulkReader{b: body, lines: true}
		orders, err := r.orders()
		if lines := strings.Count(string(body), "\n") + 1; err == nil && len(orders) > lines {
			t.Fatalf("%d orders in %d lines", len(orders), lines)
		}
	})
}
