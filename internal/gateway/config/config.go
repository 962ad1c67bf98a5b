// Package config reads the file of `wilco gateway`: the settings of wilco serve,
// and beside them what makes a gateway of a server.
//
//	name: plant-1/gw-1                 # as it is registered at the server
//	upstream:
//	  url: mqtts://wilco.example:8883
//	  secretFile: /etc/wilco/gw-1.secret
//	mirror:                            # beside what devices and server say to each other
//	  up:
//	    - plant-1/events/#             # within the bounds of queue
//	    - {topics: plant-1/telemetry/#, maxMessages: 100000, maxBytes: 67108864, overflow: oldest}
//	    - {topics: plant-1/levels/#, overflow: latest}  # while the line is cut only the last of each topic is kept
//	  down: ["plant-1/recipes/#"]
//	queue: {maxMessages: 1000000, maxBytes: 1073741824, overflow: refuse}
//	ledger: {maxBytes: 67108864}
//	rules:
//	  - name: close
//	    when: {upstreamDown: 10m, device: plant-1/valve-2, if: {path: position, gt: 0}}
//	    do: {device: plant-1/valve-2, rollback: true}
//
// It is read strictly: what is not known is an error, with line and column. All
// that is wrong is told at once. The settings come from the file alone, so that
// the variables of a server on the same machine mean nothing to its gateway.
package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/gateway/rules"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// Config is a gateway's file.
type Config struct {
	Name     wire.Address // of the gateway, as the server has registered it
	Upstream Upstream
	// Up and Down are what is mirrored beside what devices say and hear.
	Up, Down []Mirror
	Queue    Queue
	Ledger   Ledger
	Rules    []rules.Rule
	Server   config.Config // of its own server
}

// Mirror is a topic filter that is mirrored, with the queue of what waits of it: on its
// way up in the gateway's files, on its way down in memory, not acknowledged to the
// server above. Up, its bounds are at most those of the gateway's queue, which are the
// default; down, the default is 256 messages.
type Mirror struct {
	Filter string
	Queue
	// Latest keeps only the last message of each topic while the line is cut; only up.
	// Overflow is Refuse then.
	Latest bool
}

// Upstream is how the gateway reaches the server's broker.
type Upstream struct {
	URL       string        // mqtt, mqtts, ws or wss
	Secret    string        // "" with a certificate
	CA        string        // PEM file; "": the system's
	Cert, Key string        // PEM files; "": none
	KeepAlive time.Duration // how soon a silent loss is noticed, about
}

// Queue bounds what waits: of what devices say, for the server above, and for each
// client of the gateway's broker. Overflow is what becomes of more for the server; the
// up to 512 messages that are on their way stay in any case.
type Queue struct {
	MaxMessages, MaxBytes int
	Overflow              broker.Overflow
}

// Ledger bounds the former states.
type Ledger struct{ MaxBytes int64 }

// The defaults, and the least that makes sense.
const (
	defaultMessages  = 1_000_000
	defaultBytes     = 1 << 30
	defaultLedger    = 64 << 20
	leastLedger      = 64 << 10
	leastMessages    = 1024 // twice what is on its way up at a time, which nothing drops any more
	defaultKeepAlive = 30 * time.Second
	defaultDown      = 256
	mostDown         = 16384
)

// own are the keys that the settings of a server have not.
var own = []string{"name", "upstream", "mirror", "queue", "ledger", "rules"}

// Load reads a file. The error is an *config.Error with all that is wrong, or that
// of reading it.
func Load(path string) (*Config, error) {
	server, err := config.Load(config.Source{File: path, Others: own})
	var wrong *config.Error
	if err != nil && !errors.As(err, &wrong) {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the configuration file cannot be read: %v", err)
	}
	c := &Config{Queue: Queue{MaxMessages: defaultMessages, MaxBytes: defaultBytes}, Ledger: Ledger{defaultLedger}}
	c.Upstream.KeepAlive = defaultKeepAlive
	r := &reader{file: path}
	r.document(text, c)
	if wrong != nil {
		r.faults = append(wrong.Faults, r.faults...)
	} else {
		c.Server = server.Config
		if server.Origin["data"] == "default" {
			r.missing("data", "say where the gateway keeps what it has, apart from any other server's directory")
		}
		if c.Server.Broker.URL != "" {
			r.missing("broker.url", "leave it out: a gateway has a broker of its own")
		}
		r.circles(c)
	}
	if len(r.faults) > 0 {
		return nil, &config.Error{Faults: r.faults}
	}
	return c, nil
}

// reader collects what is wrong.
type reader struct {
	file   string
	faults []*fault.Error
}

func (r *reader) wrong(n *yaml.Node, path, format string, args ...any) {
	r.faults = append(r.faults, fault.Field(path, "%s:%d:%d: %s", r.file, n.Line, n.Column, fmt.Sprintf(format, args...)))
}

func (r *reader) missing(path, cure string) {
	r.faults = append(r.faults, fault.Field(path, "%s: %s", r.file, cure))
}

// keys are what a mapping may have, each with who reads it.
type keys map[string]func(n *yaml.Node, path string)

// mapping reads n, whose path is given, and says which keys it has.
func (r *reader) mapping(n *yaml.Node, path string, known keys) map[string]bool {
	has := map[string]bool{}
	if n.Kind != yaml.MappingNode {
		r.wrong(n, path, "must be a list of key: value")
		return has
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := key.Value
		if path != "" {
			at = path + "." + key.Value
		}
		read := known[key.Value]
		switch {
		case has[key.Value]:
			r.wrong(key, at, "given twice")
		case read == nil:
			r.wrong(key, at, "unknown key")
		default:
			read(value, at)
		}
		has[key.Value] = true
	}
	return has
}

// document reads the gateway's own part of the file.
func (r *reader) document(text []byte, c *Config) {
	var root yaml.Node
	if yaml.Unmarshal(text, &root) != nil || len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		if len(root.Content) == 0 {
			r.missing("name", "is missing: the gateway as the server has registered it, GROUP/NAME")
		}
		return // whoever reads the server's settings says what is wrong
	}
	mine := &yaml.Node{Kind: yaml.MappingNode}
	known := keys{
		"name":     r.address(&c.Name),
		"upstream": func(n *yaml.Node, at string) { r.upstream(n, at, &c.Upstream) },
		"mirror": func(n *yaml.Node, at string) {
			r.mapping(n, at, keys{"up": r.mirrors(&c.Up), "down": r.mirrors(&c.Down)})
		},
		"queue": func(n *yaml.Node, at string) {
			r.mapping(n, at, keys{"maxMessages": positive(r, &c.Queue.MaxMessages), "maxBytes": positive(r, &c.Queue.MaxBytes),
				"overflow": func(n *yaml.Node, at string) {
					var err error
					if c.Queue.Overflow, err = broker.ParseOverflow(n.Value); err != nil {
						r.wrong(n, at, "%v", err)
					}
				}})
			if c.Queue.MaxMessages < leastMessages {
				r.wrong(n, at+".maxMessages", "must be %d or more", leastMessages)
			}
		},
		"ledger": func(n *yaml.Node, at string) {
			r.mapping(n, at, keys{"maxBytes": positive(r, &c.Ledger.MaxBytes)})
			if c.Ledger.MaxBytes < leastLedger {
				r.wrong(n, at+".maxBytes", "must be %d or more", leastLedger)
			}
		},
		"rules": func(n *yaml.Node, at string) { r.rules(n, at, c) },
	}
	for i := 0; i+1 < len(root.Content[0].Content); i += 2 {
		if key := root.Content[0].Content[i]; known[key.Value] != nil {
			mine.Content = append(mine.Content, key, root.Content[0].Content[i+1])
		}
	}
	has := r.mapping(mine, "", known)
	r.bounds(c)
	if !has["name"] {
		r.missing("name", "is missing: the gateway as the server has registered it, GROUP/NAME")
	}
	if !has["upstream"] {
		r.missing("upstream", "is missing: the url and the secret of the server's broker")
	}
}

// circles says which mirrored topics would go round, or twice.
func (r *reader) circles(c *Config) {
	for _, m := range slices.Concat(c.Up, c.Down) {
		if mqtt.Overlap(m.Filter, c.Server.Root+"/+/+/#") {
			r.missing("mirror", fmt.Sprintf("%q matches topics of devices; these are mirrored anyway, in their own way", m.Filter))
		}
	}
	pairs := func(a, b []Mirror, same bool, what string) {
		for i, x := range a {
			for k, y := range b {
				if (!same || i < k) && mqtt.Overlap(x.Filter, y.Filter) {
					r.missing("mirror", fmt.Sprintf("%q and %q may match one topic, %s", x.Filter, y.Filter, what))
				}
			}
		}
	}
	pairs(c.Up, c.Down, false, "which would go round in a circle")
	pairs(c.Up, c.Up, true, "which is kept in one way only")
	pairs(c.Down, c.Down, true, "which is kept in one way only")
}

// bounds completes those of the mirrors. When the gateway starts, its broker has the
// bounds of queue for a moment: they must not be less.
func (r *reader) bounds(c *Config) {
	for i := range c.Up {
		m := &c.Up[i]
		if m.MaxMessages > c.Queue.MaxMessages || m.MaxBytes > c.Queue.MaxBytes {
			r.missing("mirror.up", fmt.Sprintf("%q has bounds above those of queue; raise these", m.Filter))
		}
		if m.MaxMessages > 0 && m.MaxMessages < leastMessages && !m.Latest {
			r.missing("mirror.up", fmt.Sprintf("%q: maxMessages must be %d or more", m.Filter, leastMessages))
		}
		m.MaxMessages, m.MaxBytes = cmp.Or(m.MaxMessages, c.Queue.MaxMessages), cmp.Or(m.MaxBytes, c.Queue.MaxBytes)
	}
	for i := range c.Down {
		m := &c.Down[i]
		m.MaxMessages, m.MaxBytes = cmp.Or(m.MaxMessages, defaultDown), cmp.Or(m.MaxBytes, c.Queue.MaxBytes)
		switch {
		case m.Latest:
			r.missing("mirror.down", fmt.Sprintf("%q: overflow latest is for what goes up", m.Filter))
		case m.MaxMessages > mostDown:
			r.missing("mirror.down", fmt.Sprintf("%q: maxMessages must be %d or less", m.Filter, mostDown))
		}
	}
}

// beside gives a path that is said relative to the file's directory.
func (r *reader) beside(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(r.file), path)
}

func (r *reader) upstream(n *yaml.Node, path string, u *Upstream) {
	file := ""
	r.mapping(n, path, keys{"url": r.text(&u.URL), "secret": r.text(&u.Secret), "secretFile": r.text(&file), "ca": r.text(&u.CA),
		"cert": r.text(&u.Cert), "key": r.text(&u.Key), "keepAlive": r.duration(&u.KeepAlive)})
	if x, err := url.Parse(u.URL); err != nil || x.Hostname() == "" || x.User != nil || !strings.Contains(" mqtt mqtts ws wss ", " "+x.Scheme+" ") {
		r.wrong(n, path+".url", "must be like mqtts://wilco.example:8883, without user and password")
	}
	if file != "" {
		file = r.beside(file)
		b, err := os.ReadFile(file)
		if err != nil {
			r.wrong(n, path+".secretFile", "%v", err)
		}
		if u.Secret != "" {
			r.wrong(n, path+".secretFile", "stands beside secret; give one of them")
		}
		u.Secret = strings.TrimSpace(string(b))
	}
	switch {
	case (u.Cert == "") != (u.Key == ""):
		r.wrong(n, path+".cert", "cert and key go together")
	case u.Secret == "" && u.Cert == "":
		r.wrong(n, path+".secret", "is missing: what `wilco device add` has told at the server, or a certificate with cert and key")
	case u.KeepAlive < time.Second || u.KeepAlive > 10*time.Minute:
		r.wrong(n, path+".keepAlive", "must be between 1s and 10m")
	}
}

func (r *reader) rules(n *yaml.Node, path string, c *Config) {
	if n.Kind != yaml.SequenceNode {
		r.wrong(n, path, "must be a list")
		return
	}
	seen := map[string]bool{}
	for i, one := range n.Content {
		at := fmt.Sprintf("%s.%d", path, i+1)
		var rule rules.Rule
		has := r.mapping(one, at, keys{"name": r.text(&rule.Name), "again": r.duration(&rule.Again),
			"when": func(n *yaml.Node, at string) { r.when(n, at, &rule) },
			"do":   func(n *yaml.Node, at string) { r.do(n, at, &rule.Do) }})
		switch {
		case (wire.Address{Group: rule.Name, Device: "x"}).Valid() != nil:
			r.wrong(one, at+".name", "must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
		case seen[rule.Name]:
			r.wrong(one, at+".name", "%q is there twice", rule.Name)
		case !has["when"]:
			r.wrong(one, at+".when", "is missing")
		case !has["do"]:
			r.wrong(one, at+".do", "is missing")
		}
		seen[rule.Name] = true
		c.Rules = append(c.Rules, rule)
	}
}

func (r *reader) when(n *yaml.Node, path string, rule *rules.Rule) {
	has := r.mapping(n, path, keys{"upstreamDown": r.duration(&rule.Down), "device": r.address(&rule.Of),
		"if": func(n *yaml.Node, at string) {
			rule.If = new(state.Condition)
			if err := json.Unmarshal(r.json(n, at), rule.If); err != nil {
				r.wrong(n, at, "%s", stateText(err))
			}
		}})
	switch {
	case has["if"] != has["device"]:
		r.wrong(n, path+".if", "if and device go together: whose reported state is asked about")
	case rule.Down <= 0 && rule.If == nil:
		r.wrong(n, path+".upstreamDown", "must be above 0, unless there is an if")
	}
}

func (r *reader) do(n *yaml.Node, path string, do *rules.Action) {
	has := r.mapping(n, path, keys{"device": r.address(&do.Device), "command": r.text(&do.Command),
		"rollback": func(n *yaml.Node, at string) {
			if n.Decode(&do.Rollback) != nil || !do.Rollback {
				r.wrong(n, at, "must be true")
			}
		},
		"params": func(n *yaml.Node, at string) { do.Params = r.json(n, at) },
		"desired": func(n *yaml.Node, at string) {
			var err error
			if do.Desired, err = state.Parse(r.json(n, at)); err != nil {
				r.wrong(n, at, "%s", stateText(err))
			} else if len(do.Desired) == 0 {
				r.wrong(n, at, "is empty; say what is desired")
			}
		}})
	ways := 0
	for _, way := range []string{"rollback", "desired", "command"} {
		if has[way] {
			ways++
		}
	}
	switch {
	case !has["device"]:
		r.wrong(n, path+".device", "is missing: whom the rule acts on")
	case ways != 1:
		r.wrong(n, path, "must have exactly one of rollback, desired, command")
	case has["params"] && !has["command"]:
		r.wrong(n, path+".params", "go with a command")
	case has["command"] && (do.Command == "" || len(do.Command) > wire.MaxCmd):
		r.wrong(n, path+".command", "must have 1 to %d bytes", wire.MaxCmd)
	}
}

// stateText is what is wrong with a document of state, without the word before it.
func stateText(err error) string {
	var se *state.Error
	if errors.As(err, &se) {
		return strings.TrimPrefix(se.Error(), "state: ")
	}
	return err.Error()
}

// json gives a value of the file as JSON.
func (r *reader) json(n *yaml.Node, path string) json.RawMessage {
	var v any
	err := n.Decode(&v)
	if err == nil {
		var b []byte
		if b, err = json.Marshal(v); err == nil {
			return b
		}
	}
	r.wrong(n, path, "cannot be written as JSON: %v", err)
	return json.RawMessage("{}")
}

func (r *reader) text(to *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			r.wrong(n, path, "must be text")
			return
		}
		*to = n.Value
	}
}

func (r *reader) duration(to *time.Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		d, err := time.ParseDuration(n.Value)
		if err != nil || d <= 0 {
			r.wrong(n, path, "must be a time like 10m")
			return
		}
		*to = d
	}
}

func (r *reader) address(to *wire.Address) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		a, err := wire.ParseAddress(n.Value)
		if err != nil {
			r.wrong(n, path, "must be GROUP/NAME, each 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
			return
		}
		*to = a
	}
}

func positive[N int | int64](r *reader, to *N) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		var v N
		if err := n.Decode(&v); err != nil || v < 1 {
			r.wrong(n, path, "must be a whole number above 0")
			return
		}
		*to = v
	}
}

// mirrors reads a list of filters, each alone or with its bounds.
func (r *reader) mirrors(to *[]Mirror) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.SequenceNode {
			r.wrong(n, path, "must be a list of topic filters")
			return
		}
		for i, one := range n.Content {
			var m Mirror
			name := one
			if one.Kind == yaml.MappingNode {
				at := fmt.Sprintf("%s.%d", path, i+1)
				r.mapping(one, at, keys{"topics": func(n *yaml.Node, _ string) { name = n }, "maxMessages": positive(r, &m.MaxMessages),
					"maxBytes": positive(r, &m.MaxBytes), "overflow": r.mirrorOverflow(&m)})
			}
			if m.Filter = name.Value; mqtt.ValidFilter(m.Filter) != nil || m.Filter[0] == '$' {
				r.wrong(name, path, "%q is no filter of topics that can be mirrored", m.Filter)
				continue
			}
			*to = append(*to, m)
		}
	}
}

func (r *reader) mirrorOverflow(m *Mirror) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if m.Latest = n.Value == "latest"; m.Latest {
			return
		}
		var err error
		if m.Overflow, err = broker.ParseOverflow(n.Value); err != nil {
			r.wrong(n, path, "%q is not one of refuse, newest, oldest, latest", n.Value)
		}
	}
}
