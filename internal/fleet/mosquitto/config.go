package mosquitto

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"

	"github.com/wilco-iot/wilco/wire"
)

// config is mosquitto.conf.
func config(o *Options) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	host, port, _ := net.SplitHostPort(o.Listen) // complete has looked at it

	line("# Written by wilco mosquitto config; changes are lost.")
	line("")
	line("# One listener, nobody without a password, and only what the access list allows.")
	line("per_listener_settings false")
	if host == "" {
		line("listener %s", port)
	} else {
		line("listener %s %s", port, host)
	}
	if o.CertFile != "" {
		line("certfile %s", o.CertFile)
		line("keyfile %s", o.KeyFile)
	}
	line("allow_anonymous false")
	line("password_file %s", filepath.Join(o.Dir, passwdFile))
	line("acl_file %s", filepath.Join(o.Dir, aclFile))
	line("allow_zero_length_clientid false")
	line("")
	line("# Without limit: beyond one, Mosquitto drops what is queued for a client and tells")
	line("# nobody. The default is 1000 messages. wilco keeps commands itself and sends few")
	line("# at a time, so queues stay short unless the server is away for long.")
	line("max_queued_messages 0")
	line("max_queued_bytes 0")
	line("")
	line("# How many messages at QoS 1 may be on their way to one client. Order does not depend")
	line("# on it: wilco numbers its commands, and takes acks and results in any order. A")
	line("# small number would make the server, which hears all devices, wait for each round trip.")
	line("max_inflight_messages 256")
	line("")
	line("# The largest document of the device contract; larger ones are refused at the door.")
	line("message_size_limit %d", wire.MaxDocument)
	line("")
	line("# A device's status is retained, so that the server knows who is there when it comes back.")
	line("retain_available true")
	line("")
	line("# Sessions of devices that stay away are given up after this long; what they had is")
	line("# asked again by the server.")
	line("persistent_client_expiration 14d")
	line("")
	line("# Commands are short and wanted soon.")
	line("set_tcp_nodelay true")
	line("")
	if o.Persistence == "" {
		line("persistence false")
	} else {
		line("# Written at intervals, not at each message: after a crash of the broker the server")
		line("# asks again, by the same transaction id, for what has got lost.")
		line("persistence true")
		line("persistence_location %s/", filepath.Clean(o.Persistence))
		line("autosave_interval 60")
	}
	line("")
	line("log_dest stderr")
	line("log_type error")
	line("log_type warning")
	line("log_type notice")
	line("log_type information")
	if o.User != "" {
		line("user %s", o.User)
	}
	return b.Bytes()
}
