package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/near"
)

// Source is where settings are read from.
type Source struct {
	File  string            // "" means none
	Env   []string          // as os.Environ gives it
	Flags map[string]string // by Setting.Flag; only those that were given
	// Others are keys at the top of the file that somebody else reads.
	Others []string
}

// Loaded is settings and where each came from.
type Loaded struct {
	Config
	// Origin is "default", "wilco.yaml:3:8", "WILCO_HTTP_ADDRESS" or
	// "--http-address", by Setting.Path.
	Origin map[string]string
	// Warnings are about what was not understood and does no harm: variables
	// that begin with WILCO_ and are no setting.
	Warnings []string
}

// Error is everything that is wrong with the settings. Its faults are of code
// Invalid, and errors.As finds the first.
type Error struct{ Faults []*fault.Error }

// Error gives a line for each fault.
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.Field + ": " + f.Public()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the faults.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Faults))
	for i, f := range e.Faults {
		errs[i] = f
	}
	return errs
}

// reading collects what is wrong while settings are read.
type reading struct {
	out    Loaded
	file   string
	others []string
	faults []*fault.Error
}

func (r *reading) wrong(path, format string, args ...any) {
	r.faults = append(r.faults, fault.Field(path, format, args...))
}

// Load reads and checks the settings. The error is an *Error with all that is
// wrong, or that of reading the file.
func Load(src Source) (*Loaded, error) {
	var doc []byte
	if src.File != "" {
		b, err := os.ReadFile(src.File)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fault.Wrap(err, fault.NotFound, "there is no configuration file %s", src.File)
		}
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "the configuration file cannot be read: %v", err)
		}
		doc = b
	}
	return load(doc, src)
}

func load(doc []byte, src Source) (*Loaded, error) {
	r := &reading{file: src.File, others: src.Others, out: Loaded{Config: Default(), Origin: map[string]string{}}}
	for _, s := range settings {
		r.out.Origin[s.Path] = "default"
	}
	r.yaml(doc)
	r.environment(src.Env)
	r.flags(src.Flags)
	r.out.Data = expand(r.out.Data)
	if len(r.faults) == 0 {
		r.faults = check(&r.out.Config)
	}
	if len(r.faults) > 0 {
		return nil, &Error{r.faults}
	}
	return &r.out, nil
}

// set takes a value from one of the sources.
func (r *reading) set(s *Setting, text, origin, where string) {
	if err := s.set(&r.out.Config, text); err != nil {
		r.wrong(s.Path, "%s: %v", where, err)
		return
	}
	r.out.Origin[s.Path] = origin
}

func (r *reading) environment(env []string) {
	for _, kv := range slices.Sorted(slices.Values(env)) {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "WILCO_") {
			continue
		}
		i := slices.IndexFunc(settings, func(s Setting) bool { return s.Env == name })
		switch {
		case i >= 0:
			r.set(&settings[i], value, name, "the variable "+name)
		case !slices.Contains(ClientVariables, name):
			r.out.Warnings = append(r.out.Warnings, fmt.Sprintf("the variable %s is no setting of wilco", name))
		}
	}
}

// ClientVariables are the variables of the command line itself.
var ClientVariables = []string{"WILCO_SERVER", "WILCO_TOKEN", "WILCO_CA", "WILCO_CONFIG"}

func (r *reading) flags(flags map[string]string) {
	for i := range settings {
		if value, given := flags[settings[i].Flag]; given {
			r.set(&settings[i], value, "--"+settings[i].Flag, "the flag --"+settings[i].Flag)
		}
	}
}

// expand puts the home directory in place of a leading ~.
func expand(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
		return filepath.Join("wilco-data")
	}
	return path
}

// yaml reads the file.
func (r *reading) yaml(doc []byte) {
	dec := yaml.NewDecoder(bytes.NewReader(doc))
	var root yaml.Node
	err := dec.Decode(&root)
	if errors.Is(err, io.EOF) {
		return // empty
	}
	if err != nil {
		r.wrong("file", "%s is not YAML: %s", r.file, strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		r.wrong("file", "%s holds more than one document", r.file)
		return
	}
	if len(root.Content) == 1 {
		r.mapping(root.Content[0], "")
	}
}

func (r *reading) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d:%d", r.file, n.Line, n.Column) }

// mapping reads the keys below prefix.
func (r *reading) mapping(n *yaml.Node, prefix string) {
	if n.Tag == "!!null" {
		return // a heading with nothing below it
	}
	if n.Kind != yaml.MappingNode {
		r.wrong(strings.TrimSuffix(prefix, "."), "%s: must be a list of key: value", r.at(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := prefix + key.Value
		if seen[key.Value] {
			r.wrong(path, "%s: given twice", r.at(key))
			continue
		}
		seen[key.Value] = true
		switch s, heading := find(path); {
		case prefix == "" && slices.Contains(r.others, path):
		case s != nil:
			r.scalar(s, value)
		case heading && key.Value != "":
			r.mapping(value, path+".")
		default:
			r.wrong(path, "%s: unknown key%s", r.at(key), nearest(path))
		}
	}
}

func (r *reading) scalar(s *Setting, n *yaml.Node) {
	switch {
	case n.Kind != yaml.ScalarNode:
		r.wrong(s.Path, "%s: must be one value (%s)", r.at(n), s.Type)
	case n.Tag == "!!null":
		// The key alone leaves the default.
	case s.Type == "text" && n.Tag != "!!str" && n.Tag != "!!float" && n.Tag != "!!int":
		r.wrong(s.Path, "%s: must be text; put it in quotes", r.at(n))
	default:
		r.set(s, n.Value, r.at(n), r.at(n))
	}
}

// find looks up a path: a setting, or the heading of some.
func find(path string) (s *Setting, heading bool) {
	for i := range settings {
		if settings[i].Path == path {
			return &settings[i], false
		}
		heading = heading || strings.HasPrefix(settings[i].Path, path+".")
	}
	return nil, heading
}

// nearest suggests the key that was probably meant.
func nearest(path string) string {
	best, distance := "", 4
	for _, s := range settings {
		for p := s.Path; p != ""; p = parent(p) {
			if d := near.Distance(strings.ToLower(path), strings.ToLower(p)); d < distance {
				best, distance = p, d
			}
			if last := s.Path[strings.LastIndexByte(s.Path, '.')+1:]; strings.EqualFold(last, path) && distance > 1 {
				best, distance = s.Path, 1
			}
		}
	}
	if best == "" {
		return "; see wilco config show for what there is"
	}
	return "; did you mean " + best + "?"
}

func parent(path string) string { return path[:max(strings.LastIndexByte(path, '.'), 0)] }
