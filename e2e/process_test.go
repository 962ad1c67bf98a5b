package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait that does not measure anything: the machine may be busy,
// or stand still for seconds.
const patience = time.Minute

// process is a program that runs in the background.
type process struct {
	name   string
	cmd    *exec.Cmd
	out    tail
	exited chan struct{} // closed when it has ended; err is set then
	err    error
}

// tail keeps the end of what a process writes.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - tailSize; n > 0 {
		t.buf = append(t.buf[:0], t.buf[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// spawn starts a program. It dies with the test at the latest.
func spawn(name string, stdout io.Writer, env []string, argv ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = stdout, &p.out
	if stdout == nil {
		p.cmd.Stdout = &p.out
	}
	p.cmd.WaitDelay = patience // somebody else may hold what it writes to
	dieWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// running says whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// kill ends the process with SIGKILL and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.exited
}

// stop ends the process in good order. The error is that it did not.
func (p *process) stop() error {
	if !p.running() {
		return fmt.Errorf("%s had ended already: %v\n%s", p.name, p.err, p.out.String())
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("%s did not stop cleanly: %w\n%s", p.name, p.err, p.out.String())
		}
		return nil
	case <-timer.C:
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // for the stacks of its goroutines
		select {
		case <-p.exited:
		case <-time.After(patience):
			p.kill()
		}
		return fmt.Errorf("%s did not stop within %s\n%s", p.name, patience, p.out.String())
	}
}

// command is a run of wilco that ends by itself, and is killed when it does not: its
// time begins here.
func command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	context.AfterFunc(ctx, cancel) // who runs it has nothing to let go of
	cmd := exec.CommandContext(ctx, program("wilco"), args...)
	cmd.WaitDelay = patience
	return cmd
}

// server is a running wilco serve.
type server struct {
	*process
	http, tcp string // addresses; tcp is "" without the built-in broker
}

// serve starts a server and returns when it is ready. The settings are those of
// the environment, WILCO_DATA first of all.
func serve(env []string, flags ...string) (*server, error) {
	return serving("wilco serve", env, append([]string{"serve"}, flags...)...)
}

// serving starts a word of the program that says when it is ready, and returns then.
func serving(name string, env []string, args ...string) (*server, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	p, err := spawn(name, w, env, append([]string{program("wilco")}, args...)...)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	w.Close() // so that the end of the server is the end of the pipe
	s := &server{process: p}
	ready := make(chan error, 1)
	go func() {
		defer r.Close()
		lines := bufio.NewReader(r)
		ready <- s.readReady(lines)
		_, _ = io.Copy(io.Discard, lines)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err = <-ready:
	case <-timer.C:
		err = fmt.Errorf("%s was not ready within %s", name, patience)
	}
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("%w\n%s", err, p.out.String())
	}
	return s, nil
}

// readReady reads the line "ready http=... tcp=...".
func (s *server) readReady(r *bufio.Reader) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return errors.New("wilco serve ended before it was ready")
		}
		words, found := strings.CutPrefix(strings.TrimSpace(line), "ready ")
		if !found {
			continue
		}
		for _, word := range strings.Fields(words) {
			switch name, value, _ := strings.Cut(word, "="); name {
			case "http", "https":
				s.http = value
			case "tcp":
				s.tcp = value
			}
		}
		if s.http == "" {
			return fmt.Errorf("%q names no address of the API", line)
		}
		return nil
	}
}

// adminToken is what the first start over data has left there.
func adminToken(t testing.TB, data string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(b))
}

// port is the last one that was given out: none is given twice, for one that nobody
// listens on at the moment may belong to a server that is being started again.
var port atomic.Int64

func init() { port.Store(rand.Int64N(1 << 32)) }

// freeAddress finds a port that nobody listens on, below those that the system
// gives to connections, so that it is still free after a restart.
func freeAddress() (string, error) {
	const first, last = 10000, 32000
	for range 100 {
		a := fmt.Sprintf("127.0.0.1:%d", first+port.Add(1)%(last-first))
		if l, err := net.Listen("tcp", a); err == nil {
			return a, l.Close()
		}
	}
	return "", errors.New("no free port")
}

// restartable gives what starts a server, and starts it again, over one directory and
// at the same addresses of its API and its broker.
func restartable(t *testing.T) (data, web, tcp string, start func() *server) {
	t.Helper()
	data = t.TempDir()
	var err error
	if web, err = freeAddress(); err != nil {
		t.Fatal(err)
	}
	if tcp, err = freeAddress(); err != nil {
		t.Fatal(err)
	}
	return data, web, tcp, func() *server {
		srv, err := serve([]string{"WILCO_DATA=" + data, "WILCO_HTTP_ADDRESS=" + web, "WILCO_MQTT_TCP=" + tcp, "WILCO_LOG_LEVEL=error"})
		if err != nil {
			t.Fatal(err)
		}
		return srv
	}
}
