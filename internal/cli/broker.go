package cli

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/fault"
)

// BrokerOptions are those of wilco broker: an MQTT broker and nothing else.
type BrokerOptions struct {
	TCP, WS, TLS string // addresses; "" means no such listener
	Cert, Key    string // PEM files of the TLS listener
	ClientCA     string // PEM file; "" asks clients for no certificate
	Data         string // directory of its queues; "" keeps them in memory
	Anonymous    bool   // everybody may come in and do everything
	Users        []User
}

// User is somebody who may come in.
type User struct{ Name, Password string }

func (a *app) brokerCommand() *cobra.Command {
	var o BrokerOptions
	var users []string
	var file string
	c := &cobra.Command{Use: "broker", Short: "Run an MQTT broker and nothing else",
		Long: "Broker runs an ordered MQTT 3.1.1 and 5.0 broker until it is interrupted. When it accepts connections it prints\n" +
			"one line: ready tcp=ADDRESS ws=ADDRESS tls=ADDRESS, with those listeners that there are.",
		Example: "  wilco broker --tcp 127.0.0.1:0 --anonymous\n  wilco broker --tls :8883 --cert cert.pem --key key.pem --passwords users.txt --data /var/lib/broker",
		Args:    a.args()}
	f := c.Flags()
	f.StringVar(&o.TCP, "tcp", "", "address for MQTT over TCP")
	f.StringVar(&o.WS, "ws", "", "address for MQTT over WebSocket")
	f.StringVar(&o.TLS, "tls", "", "address for MQTT over TLS")
	f.StringVar(&o.Cert, "cert", "", "PEM file with the certificate chain of --tls")
	f.StringVar(&o.Key, "key", "", "PEM file with the private key of --tls")
	f.StringVar(&o.ClientCA, "client-ca", "", "PEM file: clients of --tls must show a certificate that one of these has signed")
	f.StringVar(&o.Data, "data", "", "directory of its queues (default: in memory)")
	f.BoolVar(&o.Anonymous, "anonymous", false, "let everybody in, to do everything")
	f.StringArrayVar(&users, "user", nil, "somebody who may come in, NAME:PASSWORD (repeatable; others on this machine can see it)")
	f.StringVar(&file, "passwords", "", "file with a NAME:PASSWORD a line")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if err := o.complete(users, file); err != nil {
			return err
		}
		if a.run.Broker == nil {
			return missing("broker")
		}
		return a.run.Broker(ctx, o, a.IO)
	})
	return c
}

func (o *BrokerOptions) complete(users []string, file string) error {
	for _, u := range users {
		if err := o.user("user", u); err != nil {
			return err
		}
	}
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return fault.Field("passwords", "cannot be read: %v", err)
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimRight(line, "\r\n")
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := o.user("passwords", line); err != nil {
				return err
			}
		}
	}
	switch {
	case o.TCP == "" && o.WS == "" && o.TLS == "":
		return fault.Field("tcp", "no listener at all; give one of --tcp, --ws, --tls")
	case o.TLS != "" && o.Cert == "":
		return fault.Field("cert", "is missing beside --tls")
	case o.TLS != "" && o.Key == "":
		return fault.Field("key", "is missing beside --tls")
	case o.TLS == "" && (o.Cert != "" || o.Key != "" || o.ClientCA != ""):
		return fault.Field("tls", "is missing beside --cert, --key and --client-ca")
	case !o.Anonymous && len(o.Users) == 0:
		return fault.Field("user", "nobody could come in; give --user, --passwords or --anonymous")
	}
	return nil
}

// user takes NAME:PASSWORD; what is wrong is told without the password.
func (o *BrokerOptions) user(flag, s string) error {
	name, password, found := strings.Cut(s, ":")
	if !found || name == "" || password == "" {
		return fault.Field(flag, "must be NAME:PASSWORD, both not empty")
	}
	o.Users = append(o.Users, User{name, password})
	return nil
}
