package bench

import (
	"context"
	"errors"
	"os"
)

// OwnBroker measures a broker of this program, in a process of its own.
func OwnBroker(ctx context.Context, o MQTTOptions) (MQTTReport, error) {
	self, err := os.Executable()
	if err != nil {
		return MQTTReport{}, err
	}
	c, err := startChild(ctx, self, nil, "broker", "--tcp", "127.0.0.1:0", "--anonymous")
	if err != nil {
		return MQTTReport{}, err
	}
	o.URL, o.ServerPID = "mqtt://"+c.mqtt, c.cmd.Process.Pid
	r, err := MQTT(ctx, o)
	return r, errors.Join(err, c.stop())
}
