package device

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/wilco-iot/wilco/wire/state"
)

// unmet says why a command's condition does not hold of what the device's program
// has reported, "" when it does or when nothing can be asked.
func (r *run) unmet(condition json.RawMessage) string {
	var reported state.Reported
	switch {
	case r.replica != nil:
		reported = r.replica
	case r.cfg.Reported != nil:
		reported = asJSON{r.cfg.Reported}
	default:
		return ""
	}
	var c state.Condition
	if err := json.Unmarshal(condition, &c); err != nil {
		return clean("the condition cannot be read here: " + err.Error())
	}
	if u := c.Check(reported); u != nil {
		return clean(u.Error())
	}
	return ""
}

// asJSON makes the values of a program those that conditions compare.
type asJSON struct{ state.Reported }

// Value implements state.Reported; a value that is no JSON is absent.
func (a asJSON) Value(path string) (any, time.Duration, bool) {
	v, age, ok := a.Reported.Value(path)
	if !ok {
		return nil, 0, false
	}
	b, err := json.Marshal(map[string]any{"v": v})
	if err != nil {
		return nil, 0, false
	}
	o, err := state.Parse(b)
	if err != nil {
		return nil, 0, false
	}
	v, ok = o.Get("v")
	return v, age, ok
}

// date notes when the leaves of a patch, which has been merged, were reported. The
// clock is that of the program, which nobody sets.
func (c *replica) date(patch state.Object) {
	now := time.Now()
	if c.at == nil {
		c.at = make(map[string]time.Time)
	}
	for path := range patch.Leaves() {
		c.at[path] = now
	}
	maps.DeleteFunc(c.at, func(path string, _ time.Time) bool {
		_, there := c.reported.Get(path)
		return !there
	})
}

// Value implements state.Reported.
func (c *replica) Value(path string) (any, time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.reported.Get(path)
	if !ok {
		return nil, 0, false
	}
	o, _ := v.(state.Object)
	if len(o) == 0 {
		return v, c.age(path), true
	}
	var oldest time.Duration
	for leaf := range o.Leaves() {
		oldest = max(oldest, c.age(path+"."+leaf))
	}
	return v, oldest, true
}

func (c *replica) age(path string) time.Duration {
	at, ok := c.at[path]
	if !ok {
		return state.UnknownAge
	}
	return time.Since(at)
}
