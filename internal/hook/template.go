package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// A template is a JSON value whose strings may have placeholders: ${device},
// ${group}, ${tid}, ${name}, ${state}, ${reason}, ${detail}, and ${params},
// ${result} or ${deviceState} of the ended command, each with a path behind it:
// ${result.position}. A string that is one placeholder becomes the value as it is;
// within other text it becomes text.

// sources are the names that placeholders begin with; true: a path may follow.
var sources = map[string]bool{"device": false, "group": false, "tid": false, "name": false, "state": false, "reason": false,
	"detail": false, "params": true, "result": true, "deviceState": true}

// checkTemplate says what is wrong with a template, whatever is put into it.
func checkTemplate(template json.RawMessage) error {
	_, err := walk(template, func(path string) (any, error) {
		name, rest, deeper := strings.Cut(path, ".")
		paths, known := sources[name]
		switch {
		case !known:
			return nil, fmt.Errorf("${%s}: there is no %q; there are device, group, tid, name, state, reason, detail, params, result and deviceState", path, name)
		case deeper && (!paths || rest == ""):
			return nil, fmt.Errorf("${%s}: nothing can stand behind %q", path, name)
		}
		return "", nil
	})
	return err
}

// expand fills a template. Values is the JSON value of each source; what is not
// there is an error, because a command with a hole in its params is another one.
func expand(template json.RawMessage, values map[string]any) (json.RawMessage, error) {
	if len(template) == 0 {
		return nil, nil
	}
	v, err := walk(template, func(path string) (any, error) {
		var at any = values
		for step := range strings.SplitSeq(path, ".") {
			m, ok := at.(map[string]any)
			if at, ok = m[step], ok && m[step] != nil; !ok {
				return nil, fmt.Errorf("${%s} is not there", path)
			}
		}
		return at, nil
	})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func walk(template json.RawMessage, lookup func(string) (any, error)) (any, error) {
	v, err := decodeValue(template)
	if err != nil {
		return nil, errors.New("is not a JSON value")
	}
	return fill(v, lookup)
}

// decodeValue reads a JSON value; numbers keep their digits.
func decodeValue(b []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err = d.Decode(&v); err == nil && d.More() {
		err = errors.New("more than one value")
	}
	return v, err
}

func fill(v any, lookup func(string) (any, error)) (any, error) {
	var err error
	switch x := v.(type) {
	case string:
		return fillText(x, lookup)
	case []any:
		for i := range x {
			if x[i], err = fill(x[i], lookup); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range x {
			if x[k], err = fill(x[k], lookup); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

func fillText(s string, lookup func(string) (any, error)) (any, error) {
	var out strings.Builder
	for rest := s; ; {
		before, after, found := strings.Cut(rest, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		path, behind, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("%q has a ${ without its }", s)
		}
		v, err := lookup(path)
		if err != nil {
			return nil, err
		}
		if len(path)+3 == len(s) {
			return v, nil
		}
		if text, ok := v.(string); ok {
			out.WriteString(text)
		} else if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		} else {
			return nil, err
		}
		rest = behind
	}
}
