// Command peers runs another maker's broker as a library, for bench/mqtt.sh: the MQTT
// side of a NATS server. It is a module of its own, so that wilco never depends
// on what is measured beside it.
//
//	peers [--sync-always] [--user NAME:PASSWORD] [--tcp ADDR] DIR
//
// JetStream keeps its files in DIR. By default NATS acknowledges before it
// flushes to the disk, and flushes every two minutes; with --sync-always it
// flushes each message. Without --tcp it takes a free port, and without --user
// it lets everybody in. When it accepts connections it prints "ready tcp=ADDR";
// it ends with an interrupt.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	always := flag.Bool("sync-always", false, "flush each message to the disk before it is acknowledged")
	tcp := flag.String("tcp", "127.0.0.1:0", "address for MQTT")
	user := flag.String("user", "", "who alone may come in, NAME:PASSWORD")
	flag.Parse()
	if err := run(ctx, flag.Arg(0), *tcp, *user, *always); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// startUp bounds the server's start, JetStream's recovery included.
const startUp = 20 * time.Second

func run(ctx context.Context, dir, tcp, user string, syncAlways bool) error {
	if dir == "" {
		return fmt.Errorf("usage: peers [--sync-always] [--user NAME:PASSWORD] [--tcp ADDR] DIR")
	}
	address, err := freeAddress(tcp)
	if err != nil {
		return err
	}
	o := &server.Options{
		ServerName: "peer", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true,
		JetStream: true, StoreDir: dir, SyncAlways: syncAlways,
		MQTT: server.MQTTOpts{Host: address.IP.String(), Port: address.Port},
	}
	o.Username, o.Password, _ = strings.Cut(user, ":")
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	go s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(startUp) {
		return fmt.Errorf("not ready within %s", startUp)
	}
	fmt.Println("ready tcp=" + net.JoinHostPort(address.IP.String(), strconv.Itoa(address.Port)))
	<-ctx.Done()
	return nil
}

// freeAddress is where the server is to listen for MQTT, with a port: it takes
// no port 0 there, and does not say which one it got.
func freeAddress(tcp string) (*net.TCPAddr, error) {
	l, err := net.Listen("tcp", tcp)
	if err != nil {
		return nil, err
	}
	return l.Addr().(*net.TCPAddr), l.Close()
}
