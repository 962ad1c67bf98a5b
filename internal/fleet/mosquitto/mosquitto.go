// Package mosquitto writes the configuration of an Eclipse Mosquitto broker that
// lets in the devices of a fleet, and the server, and nobody else.
//
// It writes four files into one directory:
//
//	mosquitto.conf  listener, limits, and why each is as it is
//	passwd          a PBKDF2 hash for each device, and for the server
//	acl             the topics of each user, one by one
//	server.secret   the server's own password, made once
//
// The access list has no patterns: %u and %c put what a client says of itself
// into a topic, where a wildcard in it opens the topics of others
// (CVE-2017-7650). Every rule names one user and whole topics; only the server's
// have wildcards. Mosquitto's access lists cannot refuse a subscription, only the
// delivery: a device may subscribe to #, and still receives nothing but its own.
//
// Devices that are disabled are left out. Mosquitto reads passwd and acl again on
// SIGHUP; until then a change of the fleet has no effect on it, and connections
// that are open stay open.
package mosquitto

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Options say what is written. Dir, Profiles and Devices are required.
type Options struct {
	// Dir is the directory that the files go to; it is made, with mode 0700. The
	// configuration names them by their absolute paths.
	Dir string
	// Listen is the address of the listener. "" means 127.0.0.1:1883.
	Listen string
	// CertFile and KeyFile make it a TLS listener. Without them passwords cross
	// the network in clear.
	CertFile, KeyFile string
	// User is the system user that Mosquitto changes to when it is started by
	// root. "" means its own default, "mosquitto".
	User string
	// Persistence is the directory for Mosquitto's own state; "" keeps it in
	// memory, so that sessions end with the broker.
	Persistence string
	// ServerUser is the user name of the server. "" means "wilco-server".
	ServerUser string
	// Profiles are those that devices speak; the first is that of devices that
	// name none.
	Profiles []wire.Profile
	Devices  iter.Seq[store.Device]
}

// Skipped is a device that Mosquitto cannot let in, and why.
type Skipped struct {
	Device wire.Address
	Reason string
}

// Written says what Write has done.
type Written struct {
	Config  string // path of mosquitto.conf
	Devices int    // that can log in
	Skipped []Skipped
	// ServerUser and ServerSecret are what the server logs in with.
	ServerUser, ServerSecret string
}

// Names of the files; the mode of all is 0600.
const (
	configFile = "mosquitto.conf"
	passwdFile = "passwd"
	aclFile    = "acl"
	secretFile = "server.secret"
)

// Write writes the files. A second Write keeps the server's secret, so that a
// running server goes on. Each file is replaced whole or not at all.
func Write(o Options) (Written, error) {
	if err := o.complete(); err != nil {
		return Written{}, fmt.Errorf("mosquitto: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return Written{}, fmt.Errorf("mosquitto: %w", err)
	}
	secret, err := serverSecret(filepath.Join(o.Dir, secretFile))
	if err != nil {
		return Written{}, fmt.Errorf("mosquitto: %w", err)
	}
	passwd, acl, w := users(&o, secret)
	w.Config, w.ServerSecret = filepath.Join(o.Dir, configFile), secret
	for _, f := range []struct {
		name    string
		content []byte
	}{{passwdFile, passwd}, {aclFile, acl}, {configFile, config(&o)}} {
		if err := replace(filepath.Join(o.Dir, f.name), f.content); err != nil {
			return Written{}, fmt.Errorf("mosquitto: %w", err)
		}
	}
	return w, nil
}

func (o *Options) complete() error {
	if o.Dir == "" || len(o.Profiles) == 0 || o.Devices == nil {
		return errors.New("directory, profiles and devices are required")
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:1883"
	}
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		return fmt.Errorf("listen address: %w", err)
	}
	if o.ServerUser == "" {
		o.ServerUser = "wilco-server"
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return errors.New("a certificate needs its key, and a key its certificate")
	}
	// A device's name always has a slash, so the server's can never be one.
	if err := (wire.Address{Group: o.ServerUser, Device: "x"}).Valid(); err != nil || strings.Contains(o.ServerUser, ":") {
		return fmt.Errorf("server user %q: must be 1 to 64 of the characters A-Z a-z 0-9 . _ -", o.ServerUser)
	}
	for _, path := range []string{o.Dir, o.CertFile, o.KeyFile, o.User, o.Persistence} {
		if strings.ContainsAny(path, "\n\r") {
			return fmt.Errorf("%q has a line break, which a configuration file cannot hold", path)
		}
	}
	return nil
}

// users is the password file and the access list.
func users(o *Options, secret string) (passwd, acl []byte, w Written) {
	w.ServerUser = o.ServerUser
	p, a := bytes.NewBuffer(nil), bytes.NewBufferString("# Written by wilco mosquitto config; changes are lost. Exact topics, no patterns.\n")
	fmt.Fprintf(p, "%s:%s\n", o.ServerUser, fleet.MosquittoHash(secret))
	fmt.Fprintf(a, "\nuser %s\n", o.ServerUser)
	for _, rule := range serverRules(o.Profiles) {
		fmt.Fprintf(a, "topic %s\n", rule)
	}
	devices := slices.SortedFunc(o.Devices, func(a, b store.Device) int {
		return strings.Compare(a.Address.String(), b.Address.String())
	})
	behind := map[wire.Address][]wire.Address{}
	for _, d := range devices {
		if d.Via != (wire.Address{}) && !d.Disabled {
			behind[d.Via] = append(behind[d.Via], d.Address)
		}
	}
	for _, d := range devices {
		hash, rights, reason := entry(o, &d)
		if reason != "" {
			w.Skipped = append(w.Skipped, Skipped{d.Address, reason})
			continue
		}
		w.Devices++
		fmt.Fprintf(p, "%s:%s\n", d.Address, hash)
		fmt.Fprintf(a, "\nuser %s\n", d.Address)
		grant(a, rights)
		for _, b := range behind[d.Address] {
			grant(a, fleet.RightsOf(o.profile(d.Profile), b))
		}
	}
	return p.Bytes(), a.Bytes(), w
}

// entry is what is written about one device, or the reason why nothing is.
func entry(o *Options, d *store.Device) (hash string, r fleet.Rights, reason string) {
	if d.Disabled {
		return "", r, "it is disabled"
	}
	// The file is split at the first colon: a name with one would become another
	// user's line.
	if strings.Contains(d.Address.String(), ":") {
		return "", r, "its name has a colon, which Mosquitto's password file cannot hold"
	}
	if fleet.ByCertificate(d) {
		return "", r, "it logs in with a certificate, which this configuration asks nobody for: rotate it"
	}
	hash, ok := fleet.MosquittoSecret(d)
	if d.Via != (wire.Address{}) {
		return "", r, "its gateway, " + d.Via.String() + ", logs in for it"
	}
	if !ok {
		return "", r, "it has no secret: rotate it"
	}
	if p := o.profile(d.Profile); p != nil {
		r = fleet.RightsOf(p, d.Address)
	}
	if len(r.Receive()) == 0 {
		return "", r, "its profile has no topics for it"
	}
	return hash, r, ""
}

// profile is the one of that name, the first for "", nil when there is none.
func (o *Options) profile(name string) wire.Profile {
	for _, p := range o.Profiles {
		if name == "" || p.Name() == name {
			return p
		}
	}
	return nil
}

// grant writes the topics of a device for the user named last.
func grant(w io.Writer, r fleet.Rights) {
	for _, topic := range r.Publish() {
		fmt.Fprintf(w, "topic write %s\n", topic)
	}
	for _, topic := range r.Receive() {
		fmt.Fprintf(w, "topic read %s\n", topic)
	}
}

// serverRules let the server send to every device, and hear every device: the
// rights of a device the other way round, with a wildcard for its name. It may
// also hear commands, which only it should send: a retained one, or somebody
// else's, is an alarm.
func serverRules(profiles []wire.Profile) (rules []string) {
	for _, p := range profiles {
		all := fleet.RightsOfAll(p)
		for _, filter := range all.Receive() {
			access := "write "
			if filter == p.Topic(wire.Address{Group: "+", Device: "+"}) {
				access = "readwrite "
			}
			rules = append(rules, access+filter)
		}
		for _, filter := range all.Publish() {
			rules = append(rules, "read "+filter)
		}
	}
	return rules
}

// serverSecret reads the server's secret, or makes it.
func serverSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
			return "", fmt.Errorf("%s may be used by others: chmod 600 it, or remove it to get a new one", path)
		}
		secret := strings.TrimSpace(string(b))
		if len(secret) < 32 {
			return "", fmt.Errorf("%s holds no secret: remove it to get a new one", path)
		}
		return secret, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, 32)
	rand.Read(raw)
	secret := base64.RawURLEncoding.EncodeToString(raw)
	return secret, replace(path, []byte(secret+"\n"))
}

// replace puts content in the place of the file at path, with mode 0600.
func replace(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
