package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/config"
)

// Own is a server of the run's own: `wilco serve` of a program, in a process
// that can be killed, over a data directory that goes away with it. Make it with
// StartOwn. It is safe for concurrent use.
type Own struct {
	program, data string
	api           *client.Client
	web           *http.Transport

	mu     sync.Mutex
	cmd    *exec.Cmd // nil while it is down
	exited chan error
	http   string // addresses
	mqtt   string
}

// How long a server has to begin, its open commands included, and to end.
const (
	readyWithin = time.Minute
	endsWithin  = 30 * time.Second
)

// StartOwn starts program, which must be a wilco. The caller calls Stop.
func StartOwn(ctx context.Context, program string) (*Own, error) {
	data, err := os.MkdirTemp("", "wilco-scenario-")
	if err != nil {
		return nil, err
	}
	o := &Own{program: program, data: data}
	if err := o.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(data))
	}
	token, err := os.ReadFile(filepath.Join(data, config.TokenFile))
	if err != nil {
		return nil, errors.Join(err, o.Stop())
	}
	o.web = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return o.dial(ctx, func() string { return o.http })
	}}
	o.api, err = client.New("http://own", client.HTTP(&http.Client{Transport: o.web}), client.Token(strings.TrimSpace(string(token))))
	if err != nil {
		return nil, errors.Join(err, o.Stop())
	}
	return o, nil
}

// World is what a scenario needs of it.
func (o *Own) World() World {
	return World{API: o.api, Restart: o.restart, Broker: func(ctx context.Context) (net.Conn, error) {
		return o.dial(ctx, func() string { return o.mqtt })
	}}
}

// Stop ends the server in good order and removes what it has kept.
func (o *Own) Stop() error {
	err := o.end(false)
	if o.web != nil {
		o.web.CloseIdleConnections()
	}
	return errors.Join(err, os.RemoveAll(o.data))
}

func (o *Own) start(ctx context.Context) error {
	cmd := exec.Command(o.program, "serve")
	cmd.Env = append(os.Environ(), "WILCO_DATA="+o.data, "WILCO_HTTP_ADDRESS=127.0.0.1:0", "WILCO_MQTT_TCP=127.0.0.1:0", "WILCO_LOG_LEVEL=error")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a server: %w", err)
	}
	ready, exited := make(chan string, 1), make(chan error, 1)
	go func() {
		defer close(ready)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				ready <- rest
				_, _ = io.Copy(io.Discard, out)
			}
		}
		exited <- cmd.Wait()
	}()
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	o.mu.Lock()
	o.cmd, o.exited = cmd, exited
	o.mu.Unlock()
	select {
	case line, ok := <-ready:
		if !ok {
			err = errors.New("the server ended before it was ready")
		}
		o.take(line)
	case <-timer.C:
		err = fmt.Errorf("the server is not ready within %s", readyWithin)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return errors.Join(err, o.end(true))
	}
	return nil
}

// take reads "http=127.0.0.1:8080 tcp=127.0.0.1:1883".
func (o *Own) take(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, word := range strings.Fields(line) {
		switch name, value, _ := strings.Cut(word, "="); name {
		case "http":
			o.http = value
		case "tcp":
			o.mqtt = value
		}
	}
}

// end ends the process. One that was killed ends with an error of no interest.
func (o *Own) end(kill bool) error {
	o.mu.Lock()
	cmd, exited := o.cmd, o.exited
	o.cmd = nil
	o.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if kill {
		_ = cmd.Process.Kill() // it may have ended already
		<-exited
		return nil
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(endsWithin)
	defer timer.Stop()
	select {
	case err := <-exited:
		return err
	case <-timer.C:
		_ = cmd.Process.Kill()
		return errors.Join(fmt.Errorf("the server did not stop within %s", endsWithin), <-exited)
	}
}

func (o *Own) restart(ctx context.Context, kill bool, down time.Duration) error {
	if err := o.end(kill); err != nil {
		return err
	}
	if err := pause(ctx, down); err != nil {
		return err
	}
	return o.start(ctx)
}

var errDown = errors.New("the server is down")

func (o *Own) dial(ctx context.Context, address func() string) (net.Conn, error) {
	o.mu.Lock()
	to, up := address(), o.cmd != nil
	o.mu.Unlock()
	if !up {
		return nil, errDown
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to)
}
