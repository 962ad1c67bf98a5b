package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/mqtt"
)

// readUsers reads a users file:
//
//	users:
//	  - name: dashboard
//	    secret: $7$...               # as wilco broker secret makes them
//	    subscribe: ["plant/#"]
//	    overflow: oldest             # refuse, newest or oldest; default: as the listener
//	  - name: plant/valve-1          # without a secret: by certificate
//	    publish: ["plant/valve-1/+"]
//	    subscribe: ["plant/valve-1/command"]
//
// What is not given is denied. An unknown key, a name that comes twice and a file
// without users are errors.
func readUsers(file string, certs bool) (map[string]*user, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := parseUsers(text, certs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return list, nil
}

func parseUsers(text []byte, certs bool) (map[string]*user, error) {
	var doc struct {
		Users []struct {
			Name               string
			Secret             string
			Publish, Subscribe []string
			Overflow           string
		}
	}
	in := yaml.NewDecoder(bytes.NewReader(text))
	in.KnownFields(true)
	if err := in.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := in.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the users")
	}
	if len(doc.Users) == 0 {
		return nil, errors.New("it has no users, so nobody could come in")
	}
	list := make(map[string]*user, len(doc.Users))
	for i, d := range doc.Users {
		x := &user{publish: d.Publish, subscribe: d.Subscribe}
		switch {
		case d.Name == "" || d.Name[0] == '$':
			return nil, fmt.Errorf("user %d has no name, or one that begins with $", i+1)
		case list[d.Name] != nil:
			return nil, fmt.Errorf("user %q is there twice", d.Name)
		case d.Secret != "":
			hash, err := fleet.ParseHash(d.Secret)
			if err != nil {
				return nil, fmt.Errorf("user %q: secret: %w", d.Name, err)
			}
			x.hash = &hash
		case !certs:
			return nil, fmt.Errorf("user %q has no secret, and no listener asks for a certificate", d.Name)
		}
		if d.Overflow != "" {
			policy, err := broker.ParseOverflow(d.Overflow)
			if err != nil {
				return nil, fmt.Errorf("user %q: %w", d.Name, err)
			}
			x.overflow = &policy
		}
		for _, f := range append(append([]string(nil), d.Publish...), d.Subscribe...) {
			if err := mqtt.ValidFilter(f); err != nil || f[0] == '$' {
				return nil, fmt.Errorf("user %q: %q is no filter of topics that users may have", d.Name, f)
			}
		}
		list[d.Name] = x
	}
	return list, nil
}
