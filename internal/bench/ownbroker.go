package bench

import (
	"context"
	"errors"
	"os"
)

// OwnBroker starts a broker of this program in a process of its own, calls
// measure with its URL and process, and stops it. It lets everybody in, and keeps
// its queues in data, or in memory if that is "".
func OwnBroker(ctx context.Context, data string, measure func(url string, pid int) error) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"broker", "--tcp", "127.0.0.1:0", "--anonymous"}
	if data != "" {
		args = append(args, "--data", data)
	}
	c, err := startChild(ctx, self, nil, args...)
	if err != nil {
		return err
	}
	return errors.Join(measure("mqtt://"+c.mqtt, c.cmd.Process.Pid), c.stop())
}
