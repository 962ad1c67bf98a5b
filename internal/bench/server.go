// Package bench measures: lifecycles of commands through a whole server, and
// messages through any broker.
//
// What is measured runs in a process of its own, so that its CPU time and memory
// are its own: a server that is started here from the same program, or a broker
// whose process id is given. The load runs in this process.
package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/config"
)

// child is a wilco that was started for a measurement.
type child struct {
	cmd    *exec.Cmd
	http   string // address, of a server
	mqtt   string // address
	exited chan error
}

// server is a `wilco serve`.
type server struct {
	*child
	api   *client.Client
	token string
}

// readyWithin bounds the start of a server, its open commands included.
const readyWithin = 2 * time.Minute

// startServer runs binary over the data directory, with more settings of the
// environment, and waits until it is ready.
func startServer(ctx context.Context, binary, data string, env ...string) (*server, error) {
	c, err := startChild(ctx, binary, append(env, "WILCO_DATA="+data, "WILCO_HTTP_ADDRESS=127.0.0.1:0", "WILCO_MQTT_TCP=127.0.0.1:0",
		"WILCO_LOG_LEVEL=error"), "serve")
	if err != nil {
		return nil, err
	}
	s := &server{child: c}
	if err := s.connect(data); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// startChild runs binary and waits until it says that it is ready.
func startChild(ctx context.Context, binary string, env []string, args ...string) (*child, error) {
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s %s: %w", binary, args[0], err)
	}
	c := &child{cmd: cmd, exited: make(chan error, 1)}
	ready := make(chan error, 1)
	go func() {
		ready <- c.readReady(out)
		_, _ = io.Copy(io.Discard, out)
		c.exited <- cmd.Wait()
	}()
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(readyWithin):
		err = fmt.Errorf("not ready within %s", readyWithin)
	}
	if err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// readReady reads the line "ready http=... tcp=...".
func (c *child) readReady(out io.Reader) error {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("it ended before it was ready: %w", err)
		}
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "ready" {
			continue
		}
		for _, f := range fields[1:] {
			switch name, value, _ := strings.Cut(f, "="); name {
			case "http":
				c.http = value
			case "tcp":
				c.mqtt = value
			}
		}
		return nil
	}
}

func (s *server) connect(data string) error {
	token, err := os.ReadFile(filepath.Join(data, config.TokenFile))
	if err != nil {
		return err
	}
	s.token = strings.TrimSpace(string(token))
	s.api, err = client.New("http://"+s.http, client.Token(s.token))
	return err
}

// stop ends the server in good order, and after a while in any.
func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case err := <-c.exited:
		return err
	case <-time.After(30 * time.Second):
		return errors.Join(errors.New("it did not stop within 30 s"), c.cmd.Process.Kill())
	}
}

// cpuSeconds is the CPU time that a process has used so far, in user and kernel
// mode. Linux only.
func cpuSeconds(pid int) (float64, error) { return cpuOf(fmt.Sprintf("/proc/%d/stat", pid)) }

// threadCPU is the CPU time of the calling thread, to which the goroutine should
// be locked.
func threadCPU() (float64, error) { return cpuOf("/proc/thread-self/stat") }

func cpuOf(file string) (float64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold spaces; utime and stime are the 14th and
	// 15th fields, counted from the pid.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s: %d fields", file, len(fields))
	}
	var ticks float64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ, the same on every Linux that Go runs on
	return ticks / perSecond, nil
}

// peakMiB is the most memory that a process has had, in MiB. Linux only.
func peakMiB(pid int) (float64, error) { return statusMiB(pid, "VmHWM:") }

// memoryMiB is the memory that a process has now, in MiB. Linux only.
func memoryMiB(pid int) (float64, error) { return statusMiB(pid, "VmRSS:") }

func statusMiB(pid int, name string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, name)
}
