package api

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
)

// FuzzBulkReader compares the hand-written reader with encoding/json: what the
// reader takes without a complaint must be JSON, and mean the same.
func FuzzBulkReader(f *testing.F) {
	for _, s := range []string{`[]`, `[{}]`, `[{"device":"a/b","name":"n"}]`, `[{"device":"a/b","name":"n","params":{"x":[1,"]"]},"policy":{"ackBy":"1s"},"key":"k"}]`,
		` [ { "device" : "a\/b" , "name" : null } , { "device":"a/b","params":-1.5e3 } ] `, `[{"device":"a/b","name":"\u006e","params":[{]}]`, `[1]`, `[{"a":tru}]`,
		`[{"device":"a/b","name":"n"`, `[{"device":"a/b","policy":{"ackBy":5}}]`, `[{"device":"a/b",}]`, "[{\"device\":\"a/b\"}]\x00", `[{"device":"a/b","key":"\ud800"}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := bulkReader{b: body, base: command.Defaults}
		orders, err := r.orders()
		if err != nil {
			return
		}
		for _, o := range orders {
			if o.Err != nil || o.Params != nil && !json.Valid(o.Params) { // which the service refuses
				return
			}
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		var want []client.BulkOrder
		if err := d.Decode(&want); err != nil {
			t.Fatalf("taken, but %v: %q", err, body)
		}
		if len(want) != len(orders) {
			t.Fatalf("%d orders, want %d: %q", len(orders), len(want), body)
		}
		for i, o := range orders {
			params := want[i].Params
			if string(params) == "null" {
				params = nil
			}
			policy, err := policyJSON(nil).over(command.Defaults)
			if want[i].Policy != nil {
				var raw []struct{ Policy json.RawMessage }
				if err := json.Unmarshal(body, &raw); err != nil {
					t.Fatal(err)
				}
				policy, err = policyJSON(raw[i].Policy).over(command.Defaults)
			}
			if err != nil || o.Device.String() != want[i].Device || o.Name != want[i].Name || o.Key != want[i].Key ||
				!bytes.Equal(o.Params, params) || !reflect.DeepEqual(o.Policy, policy) {
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
		r := bulkReader{b: body, lines: true, base: command.Defaults}
		orders, err := r.orders()
		if lines := strings.Count(string(body), "\n") + 1; err == nil && len(orders) > lines {
			t.Fatalf("%d orders in %d lines", len(orders), lines)
		}
	})
}
