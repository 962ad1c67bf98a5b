// Package config is the settings of wilco serve: one struct that knows its own
// documentation, read from a YAML file, the environment and flags.
//
//	default  <  file  <  WILCO_* variable  <  flag
//
// The struct tags are the one source of names, defaults and documentation; the
// file's keys, the variables, the flags and docs/reference/config.md all come
// out of them. The file is read strictly: an unknown key is an error that has
// the line, the column and the nearest key that there is. Where a value came
// from is kept ([Loaded.Origin]), and secrets are masked wherever values are
// shown.
//
// The package reads no global state but what it is given in a [Source]. Values
// are plain data, safe for concurrent use once loaded.
package config

import (
	"github.com/wilco-iot/wilco/internal/command"
)

// Config is all settings. Tags: key is the name in the file, default what holds
// when nobody says anything, doc what it is for, secret that it must not be shown.
type Config struct {
	Data string `key:"data" default:"~/.local/share/wilco" doc:"directory that holds everything wilco keeps; made when it is missing"`
	HTTP struct {
		Address string `key:"address" default:"127.0.0.1:8080" doc:"address of the HTTP API, host:port; port 0 takes a free one"`
		TLS     struct {
			Cert string `key:"cert" doc:"PEM file with the certificate chain of the HTTP API, which then speaks HTTPS and nothing else; empty: plain HTTP"`
			Key  string `key:"key" doc:"PEM file with the private key of the HTTP API"`
		} `key:"tls"`
		// TrustedProxies is read by Prefixes.
		TrustedProxies string `key:"trustedProxies" doc:"reverse proxies in front of the HTTP API, addresses or networks like 10.0.0.0/8 with commas between: what they write in X-Forwarded-For is the address that logins are bounded and recorded by. Empty: none, and the header is not read"`
	} `key:"http"`
	MQTT struct {
		TCP string `key:"tcp" default:"127.0.0.1:1883" doc:"address of the built-in broker; empty: no such listener"`
		WS  string `key:"ws" doc:"address of the built-in broker for MQTT over WebSocket; empty: no such listener"`
		TLS struct {
			Address string `key:"address" doc:"address of the built-in broker for MQTT over TLS; empty: no such listener"`
			Cert    string `key:"cert" doc:"PEM file with the certificate chain of the TLS listener"`
			Key     string `key:"key" doc:"PEM file with the private key of the TLS listener"`
			// ClientCA is the trust in devices' certificates.
			ClientCA string `key:"clientCA" doc:"PEM file with the authorities of devices' certificates: a client of the TLS listener must show one; empty: none is asked for"`
		} `key:"tls"`
		Durability string `key:"durability" default:"fsync" oneof:"fsync,os,memory" doc:"what the acknowledgements of the built-in broker survive. fsync: any crash; os: a crash of wilco, but one of the machine costs the last seconds; memory: none, a crash of wilco costs all that is queued and retained"`
		Shares     string `key:"shares" default:"round_robin" doc:"how shared subscriptions of the built-in broker choose who gets a message: round_robin, sticky, key:topic or key:publisher, and, as in key:topic/oldest, what happens when its own queue is full (refuse, newest or oldest; default refuse); NAME=WORD for those of one name, which are counted apart; several with commas between"`
		Overflow   string `key:"overflow" default:"refuse" oneof:"refuse,newest,oldest" doc:"what happens to a QoS 1 or 2 message for a client of the built-in broker whose queue is full. refuse: its publisher is told, and nobody gets it; newest: it is dropped for that client; oldest: what has waited longest for that client is dropped"`
		Users      string `key:"users" doc:"YAML file of users of the built-in broker beside devices, and of topics that devices have besides, as for wilco broker --users; read anew when it changes, and at SIGHUP. It gives nobody the right to publish below ROOT/, ROOT-replies/ and commands/, nor below spBv1.0/ at a Sparkplug host. Empty: none"`
	} `key:"mqtt"`
	Broker struct {
		URL           string `key:"url" secret:"url" doc:"use this broker in place of the built-in one: mqtt://, mqtts://, ws:// or wss://, with user:password@ when it wants them"`
		Version       string `key:"version" default:"5" oneof:"3.1.1,5" doc:"MQTT version to speak to it"`
		RequestsToken string `key:"requestsToken" secret:"text" doc:"token whose rights requests over MQTT by way of this broker have; its own rights must say who may publish them. Empty: none are taken"`
	} `key:"broker"`
	OIDC struct {
		Issuer     string `key:"issuer" doc:"URL of an OpenID Connect issuer whose tokens (JWT) the API takes; empty: none"`
		Audience   string `key:"audience" doc:"that the tokens must be for"`
		NameClaim  string `key:"nameClaim" default:"sub" doc:"claim with the name; who has it is one with the user of that name"`
		RolesClaim string `key:"rolesClaim" default:"roles" doc:"claim with the roles, a text or a list; dots go into objects, as in realm_access.roles"`
		Grants     string `key:"grants" doc:"what roles may do: VALUE=ROLE[@GROUP,...][/COMMAND,...] with spaces between them, as in admins=admin valves=operator@plant/valve.*"`
	} `key:"oidc"`
	Profile string `key:"profile" default:"wilco" oneof:"wilco,atlas" doc:"language of devices that name none"`
	Root    string `key:"root" default:"wilco" doc:"first level, or levels, of the topics of the profile wilco"`
	Log     struct {
		Level  string `key:"level" default:"info" oneof:"debug,info,warn,error" doc:"what is logged"`
		Format string `key:"format" default:"text" oneof:"text,json" doc:"how it is written"`
	} `key:"log"`
	Commands struct {
		UnknownTypes string `key:"unknownTypes" default:"allow" oneof:"allow,refuse" doc:"what becomes of a command whose name is no command type. allow: it is sent, with any parameters and the default policy; refuse: it is not made"`
	} `key:"commands"`
	Sparkplug struct {
		Role     string `key:"role" default:"off" oneof:"off,passive,active,primary" doc:"whether the server is a Sparkplug B host on its broker, and what it does besides listening. passive: nothing; active: it asks edge nodes for rebirths; primary: it also publishes STATE. Unless it is off, a device GROUP/NAME may be the edge node GROUP/NAME of the built-in broker"`
		HostID   string `key:"hostID" doc:"id of a primary, unique among all hosts"`
		Filters  string `key:"filters" default:"spBv1.0/#" doc:"what it listens to; several with commas between"`
		Reported string `key:"reported" doc:"the metrics whose values are reported as the state of registered edge nodes and devices: filters, as of MQTT, over their names, several with commas between; # for all. Empty: none"`
		Servers  string `key:"servers" secret:"all" doc:"other brokers to follow edge nodes at, beside the server's own: NAME=URL, several with commas between, each URL like that of broker.url"`
	} `key:"sparkplug"`
	Retention command.Duration `key:"retention" default:"720h" doc:"how long ended commands, events, and tokens that have expired are kept"`
	Policy    Policy           `key:"policy"`
}

// Policy is the policy of commands that name none; see the state machine's page
// for what its clocks mean.
type Policy struct {
	DeliverBy   command.Duration `key:"deliverBy" default:"24h" doc:"from creation until the device must not begin any more"`
	AckBy       command.Duration `key:"ackBy" default:"10s" doc:"from a publication until its acknowledgement"`
	Heartbeat   command.Duration `key:"heartbeat" default:"0s" doc:"at most between two RUNNING; 0s: none expected"`
	FinishBy    command.Duration `key:"finishBy" default:"1h" doc:"from the first publication until the result"`
	Settle      command.Duration `key:"settle" default:"24h" doc:"how long a late answer still counts after timed_out"`
	Backoff     string           `key:"backoff" default:"exponential" oneof:"none,linear,exponential" doc:"how the wait between attempts grows"`
	MaxAttempts int              `key:"maxAttempts" default:"5" doc:"publications without an answer while the device is online, 1 to 100"`
	Jitter      float64          `key:"jitter" default:"0.2" doc:"share of the wait, 0 to 1, that is added or taken away"`
	Supersede   bool             `key:"supersede" default:"false" doc:"a newer command of the same name replaces it while it waits"`
	MaxBackoff  command.Duration `key:"maxBackoff" default:"5m" doc:"upper bound of one wait"`
}

// Command gives the policy in the words of package command.
func (p Policy) Command() command.Policy {
	return command.Policy{DeliverBy: p.DeliverBy, AckBy: p.AckBy, Heartbeat: p.Heartbeat, FinishBy: p.FinishBy, Settle: p.Settle,
		Backoff: command.Backoff(p.Backoff), MaxAttempts: p.MaxAttempts, Jitter: p.Jitter, Supersede: p.Supersede, MaxBackoff: p.MaxBackoff}
}

// TokenFile is where wilco serve leaves the token of the first admin, readable
// by its own user only, so that the command line on the same machine just works.
const TokenFile = "admin.token"

// BrokerDir is where, in the data directory, the built-in broker keeps its
// sessions, queues and retained messages.
const BrokerDir = "broker"

// Default is the settings when nobody says anything.
func Default() Config {
	var c Config
	for _, s := range settings {
		if err := s.set(&c, s.Default); err != nil {
			panic("config: default of " + s.Path + ": " + err.Error())
		}
	}
	return c
}

// DataDir is the default data directory.
func DataDir() string { return expand(Default().Data) }
