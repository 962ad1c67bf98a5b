package check

import (
	"errors"
	"os/exec"
	"sync"

	"github.com/wilco-iot/wilco/internal/fault"
)

// process is the broker, when the tester is to start it.
type process struct {
	command []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.command[0], p.command[1:]...)
	if err := cmd.Start(); err != nil {
		return fault.Field("start", "%v", err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.err = cmd, ended, nil
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

// kill ends it without a warning, and waits for its end.
func (p *process) kill() {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill()
	<-ended
}
