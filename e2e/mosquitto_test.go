package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// mosquitto is a real Mosquitto with the configuration that wilco writes for it.
type mosquitto struct {
	*process
	binary, dir, address string
	url                  string // what wilco serve --broker-url takes
	serverUser           string
	serverSecret         string
}

// newMosquitto writes the configuration out of the data directory. It does not
// start anything.
func newMosquitto(binary, dir, data string) (*mosquitto, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	m := &mosquitto{binary: binary, dir: dir, address: address}
	return m, m.configure(data)
}

// configure writes the configuration anew, with the devices that there are now.
func (m *mosquitto) configure(data string) error {
	args := []string{"mosquitto", "config", m.dir, "--listen", m.address, "--json"}
	if os.Geteuid() == 0 {
		args = append(args, "--user", "root") // it could not read our files else
	}
	cmd := command(args...)
	cmd.Env = append(os.Environ(), "WILCO_DATA="+data)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = exit.Stderr
		}
		return fmt.Errorf("wilco mosquitto config: %w\n%s", err, out)
	}
	var doc struct{ Config, Broker string }
	if err := json.Unmarshal(out, &doc); err != nil {
		return fmt.Errorf("wilco mosquitto config --json: %w", err)
	}
	if doc.Config != filepath.Join(m.dir, "mosquitto.conf") {
		return fmt.Errorf("the configuration is said to be at %s", doc.Config)
	}
	m.url = doc.Broker
	m.serverUser, m.serverSecret, err = userOf(doc.Broker)
	return err
}

// start starts it and returns when it lets the server in.
func (m *mosquitto) start() error {
	var err error
	if m.process, err = spawn("mosquitto", nil, nil, m.binary, "-c", filepath.Join(m.dir, "mosquitto.conf")); err != nil {
		return err
	}
	return m.admits(m.serverUser, m.serverSecret)
}

// reload makes it read the list of devices again, and waits until a device is
// let in.
func (m *mosquitto) reload(user, secret string) error {
	if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return m.admits(user, secret)
}

// admits waits until somebody may come in.
func (m *mosquitto) admits(user, secret string) error {
	err := within(patience, func() error { return knock(m.address, user, secret) })
	if err != nil {
		return fmt.Errorf("mosquitto does not let %s in: %w\n%s", user, err, m.out.String())
	}
	return nil
}

// knock connects once, with nothing but a CONNECT, and says whether it was
// accepted.
func knock(address, user, secret string) error {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	connect := mqtt.Connect{Version: mqtt.V311, ClientID: "knock", CleanStart: true, HasUsername: true, Username: user,
		HasPassword: true, Password: []byte(secret)}
	b, err := connect.Append(nil, mqtt.V311)
	if err != nil {
		return err
	}
	if _, err := conn.Write(b); err != nil {
		return err
	}
	var answer [4]byte
	if _, err := conn.Read(answer[:]); err != nil {
		return err
	}
	if answer[0] != byte(mqtt.TypeConnack)<<4 || answer[3] != 0 {
		return fmt.Errorf("CONNACK % x", answer)
	}
	return nil
}
