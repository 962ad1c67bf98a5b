package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
)

// BrokerOptions are those of wilco broker: an MQTT broker and nothing else.
type BrokerOptions struct {
	TCP, WS, TLS string // addresses; "" means no such listener
	Cert, Key    string // PEM files of the TLS listener
	ClientCA     string // PEM file; "" asks clients for no certificate
	Data         string // directory of its queues; "" keeps them in memory
	Durability   string // fsync or os with Data, memory without
	Anonymous    bool   // everybody may come in and do everything
	Users        []User
	UsersFile    string   // "" for none
	Overflow     string   // refuse, newest or oldest
	Metrics      string   // address; "" for none
	Shares       []string // how shared subscriptions choose: WORD, or NAME=WORD
}

// User is somebody who may come in.
type User struct{ Name, Password string }

func (a *app) brokerCommand() *cobra.Command {
	var o BrokerOptions
	var users []string
	c := &cobra.Command{Use: "broker", Short: "Run an MQTT broker and nothing else",
		Long: "Broker runs an ordered MQTT 3.1.1 and 5.0 broker until it is interrupted. When it accepts connections it prints\n" +
			"one line: ready tcp=ADDRESS ws=ADDRESS tls=ADDRESS metrics=ADDRESS, with those that there are.\n\n" +
			"The users file is\n\n" +
			"    users:\n" +
			"      - name: pump-1\n" +
			"        secret: $7$...             # a hash as wilco broker secret makes it\n" +
			"        publish: [\"pumps/1/#\"]\n" +
			"        subscribe: [orders/1]\n\n" +
			"and may say overflow, in place of --overflow. A topic that is not given is denied. A user without a secret comes in by\n" +
			"a certificate with the URI wilco:NAME, for which --client-ca is needed. A file that cannot be used changes nothing; who\n" +
			"is taken out of it loses the connection.",
		Example: "  wilco broker --tcp 127.0.0.1:0 --anonymous\n  wilco broker --tls :8883 --cert cert.pem --key key.pem --users users.yaml --data /var/lib/broker",
		Args:    a.args()}
	f := c.Flags()
	f.StringVar(&o.TCP, "tcp", "", "address for MQTT over TCP")
	f.StringVar(&o.WS, "ws", "", "address for MQTT over WebSocket")
	f.StringVar(&o.TLS, "tls", "", "address for MQTT over TLS")
	f.StringVar(&o.Cert, "cert", "", "PEM file with the certificate chain of --tls")
	f.StringVar(&o.Key, "key", "", "PEM file with the private key of --tls")
	f.StringVar(&o.ClientCA, "client-ca", "", "PEM file: clients of --tls must show a certificate that one of these has signed")
	f.StringVar(&o.Data, "data", "", "directory of its sessions, queues and retained messages (default: in memory, and gone when it ends)")
	f.StringVar(&o.Durability, "durability", "", "what acknowledgements survive: fsync (any crash), os (a crash of the program; one of the machine costs the last seconds) or memory (none, nothing is written); default fsync with --data, memory without")
	f.BoolVar(&o.Anonymous, "anonymous", false, "let everybody in, to do everything")
	f.StringArrayVar(&users, "user", nil, "somebody who may come in and do everything, NAME:PASSWORD (repeatable; others on this machine can see it)")
	f.StringVar(&o.UsersFile, "users", "", "YAML file of users with their rights; read anew when it changes, and at SIGHUP")
	f.StringArrayVar(&o.Shares, "share", nil, "who gets a message of a shared subscription: round_robin, sticky, key:topic or key:publisher, and, as in key:topic/oldest, what happens when its own queue is full, as for --overflow (default refuse); NAME=WORD for the shares of that name, which are counted apart (repeatable; default round_robin)")
	f.StringVar(&o.Overflow, "overflow", "refuse", "what happens to a QoS 1 or 2 message for a session whose queue is full: refuse it to its publisher, drop it for that session (newest), or drop what waits there longest (oldest)")
	f.StringVar(&o.Metrics, "metrics", "", "address for /metrics (Prometheus) and /healthz, to everybody who can reach it")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if err := o.complete(users); err != nil {
			return err
		}
		if a.run.Broker == nil {
			return missing("broker")
		}
		return a.run.Broker(ctx, o, a.IO)
	})
	c.AddCommand(a.brokerSecret())
	return c
}

func (a *app) brokerSecret() *cobra.Command {
	c := &cobra.Command{Use: "secret", Short: "Make a random secret, and the hash of it for a users file", Args: a.args()}
	c.RunE = a.do(func(context.Context, []string) error {
		var s struct {
			Secret string `json:"secret"`
			Hash   string `json:"hash"`
		}
		s.Secret, s.Hash = fleet.NewSecret()
		return a.print(s, func(w io.Writer) { fmt.Fprintf(w, "secret  %s\nhash    %s\n", s.Secret, s.Hash) })
	})
	return c
}

func (o *BrokerOptions) complete(users []string) error {
	for _, u := range users {
		if err := o.user(u); err != nil {
			return err
		}
	}
	if o.Durability == "" {
		o.Durability = "fsync"
		if o.Data == "" {
			o.Durability = "memory"
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
	case o.Durability == "memory" && o.Data != "":
		return fault.Field("durability", "memory keeps nothing in --data; leave one of them out")
	case o.Durability != "memory" && o.Data == "":
		return fault.Field("data", "is missing beside --durability %s", o.Durability)
	case !slices.Contains([]string{"refuse", "newest", "oldest"}, o.Overflow):
		return fault.Field("overflow", "%q is not one of refuse, newest, oldest", o.Overflow)
	case !slices.Contains([]string{"fsync", "os", "memory"}, o.Durability):
		return fault.Field("durability", "%q is not one of fsync, os, memory", o.Durability)
	case o.Anonymous && (len(o.Users) > 0 || o.UsersFile != ""):
		return fault.Field("anonymous", "lets everybody do everything; leave it out beside --user and --users")
	case !o.Anonymous && len(o.Users) == 0 && o.UsersFile == "":
		return fault.Field("user", "nobody could come in; give --user, --users or --anonymous")
	}
	return nil
}

// user takes NAME:PASSWORD; what is wrong is told without the password.
func (o *BrokerOptions) user(s string) error {
	name, password, found := strings.Cut(s, ":")
	if !found || name == "" || password == "" {
		return fault.Field("user", "must be NAME:PASSWORD, both not empty")
	}
	o.Users = append(o.Users, User{name, password})
	return nil
}
