package check

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
)

// process is the broker, when the tester is to start it.
type process struct {
	command []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
	said  *tail
}

// start starts the command, with another one in front of it when that is given.
func (p *process) start(front ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := slices.Concat(front, p.command)
	cmd := exec.Command(line[0], line[1:]...)
	said := &tail{}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = said, said, time.Second
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return fault.Field("start", "%v", err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.err, p.said = cmd, ended, nil, said
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = errors.New("exited")
		if err != nil {
			p.err = err
		}
		p.mu.Unlock()
		close(ended)
	}()
	return nil
}

// gone tells how the process ended, if it did.
func (p *process) gone() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// lines are the last that it has written since it was started.
func (p *process) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.lines()
}

// kill ends it without a warning, and waits for its end.
func (p *process) kill() { p.end(syscall.SIGKILL, 0) }

// stop asks it to end, and kills it when it has not done so after some time.
func (p *process) stop() { p.end(syscall.SIGTERM, 10*time.Second) }

func (p *process) end(how syscall.Signal, within time.Duration) {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	signalGroup(cmd, how)
	if how != syscall.SIGKILL {
		select {
		case <-ended:
		case <-time.After(within):
		}
		signalGroup(cmd, syscall.SIGKILL)
	}
	<-ended
}

// tail keeps the end of what a process writes.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// tailSize is much more than a broker says about what is wrong.
const tailSize = 64 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if n := len(t.b) - tailSize; n > 0 {
		t.b = slices.Delete(t.b, 0, n)
	}
	return len(b), nil
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Split(strings.TrimSpace(string(t.b)), "\n")
}
