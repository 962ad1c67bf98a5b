package app

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/wire"
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
// without users are errors. What the file of a server may say is at spaces.
func readUsers(file string, certs bool, own spaces) (map[string]*user, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := parseUsers(text, certs, own)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return list, nil
}

// entry is a user as the file has it.
type entry struct {
	Name, Secret       string
	Publish, Subscribe []string
	Overflow           string
}

func parseUsers(text []byte, certs bool, own spaces) (map[string]*user, error) {
	var doc struct{ Users []entry }
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
	for i := range doc.Users {
		d := &doc.Users[i]
		if d.Name == "" || d.Name[0] == '$' {
			return nil, fmt.Errorf("user %d has no name, or one that begins with $", i+1)
		}
		if list[d.Name] != nil {
			return nil, fmt.Errorf("user %q is there twice", d.Name)
		}
		x, err := d.user(certs, own)
		if err != nil {
			return nil, fmt.Errorf("user %q: %w", d.Name, err)
		}
		list[d.Name] = x
	}
	return list, nil
}

func (d *entry) user(certs bool, own spaces) (*user, error) {
	x := &user{publish: d.Publish, subscribe: d.Subscribe}
	device := own != nil && strings.Contains(d.Name, "/")
	switch {
	case device:
		if err := d.device(); err != nil {
			return nil, err
		}
	case d.Secret != "":
		hash, err := fleet.ParseHash(d.Secret)
		if err != nil {
			return nil, fmt.Errorf("secret: %w", err)
		}
		x.hash = &hash
	case !certs:
		return nil, errors.New("it has no secret, and no listener asks for a certificate")
	}
	if d.Overflow != "" {
		policy, err := broker.ParseOverflow(d.Overflow)
		if err != nil {
			return nil, err
		}
		x.overflow = &policy
	}
	for _, f := range slices.Concat(d.Publish, d.Subscribe) {
		if err := mqtt.ValidFilter(f); err != nil || f[0] == '$' {
			return nil, fmt.Errorf("%q is no filter of topics that users may have", f)
		}
	}
	return x, own.check(d)
}

// device says what is wrong with an entry that gives a device more topics.
func (d *entry) device() error {
	_, err := wire.ParseAddress(d.Name)
	switch {
	case err != nil:
		return errors.New("names with a slash are those of devices, GROUP/NAME, and this is none")
	case d.Secret != "":
		return errors.New("names with a slash are those of devices, which are registered with wilco device add and have their secrets there; leave the secret out")
	case d.Overflow != "":
		return errors.New("overflow is for users, and this is a device; leave it out")
	}
	return nil
}

// spaces are what the topics of a server begin with. Its users file gives no right to
// publish there: what comes there is the word of the server, of a device or of who may
// ask for commands, and of nobody else. The right to read there it gives by a filter
// that names the space, and not in passing, by a wildcard in the place of the name.
// Names with a slash are those of devices in such a file; they log in as ever, and have
// its topics besides. Nil are the spaces of a lone broker, which has none.
type spaces []string

// spacesOf are those of a server with the root of topics; hosts says whether it is a
// Sparkplug host, whose edge nodes are devices.
func spacesOf(root string, hosts bool) spaces {
	replies, _, _ := strings.Cut(wire.ReplySpace(root, "+"), "/+/")
	atlas, _, _ := strings.Cut(wire.Atlas().Topic(wire.Address{Group: wire.AtlasGroup, Device: "+"}), "/+")
	s := spaces{cmp.Or(root, wire.DefaultRoot), replies, atlas}
	if hosts {
		s = append(s, sparkplug.Namespace)
	}
	return s
}

func (s spaces) check(d *entry) error {
	for _, space := range s {
		all, below := space+"/#", space+"/+/#" // the name alone is no topic of the server
		for _, f := range d.Publish {
			if mqtt.Overlap(f, below) {
				return fmt.Errorf("publish: %q takes in topics below %s/, where only this server and its devices publish; give the topics that are meant", f, space)
			}
		}
		for _, f := range d.Subscribe {
			if mqtt.Overlap(f, below) && !strings.HasPrefix(f, space+"/") && !slices.Contains(d.Subscribe, all) {
				return fmt.Errorf("subscribe: %q takes in topics of this server; name %q besides if they are to be read, or give the topics that are meant", f, all)
			}
		}
	}
	return nil
}
