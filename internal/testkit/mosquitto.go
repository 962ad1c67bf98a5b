package testkit

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// MosquittoPath finds Eclipse Mosquitto, or skips the test.
func MosquittoPath(t testing.TB) string {
	t.Helper()
	// Debian keeps it where users do not look.
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("mosquitto is not installed")
	return ""
}

// MosquittoConfig writes a configuration that lets everybody in, with the lines
// given besides, and returns the file's name.
func MosquittoConfig(t testing.TB, lines ...string) string {
	t.Helper()
	me, err := user.Current() // as root it would become another user, who cannot read the test's files
	if err != nil {
		t.Fatal(err)
	}
	text := "user " + me.Username + "\nallow_anonymous true\n" + strings.Join(lines, "\n") + "\n"
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// StartMosquitto runs Mosquitto with a configuration file until the end of the
// test, and returns its process id when it accepts connections. What it said is
// logged when the test fails.
func StartMosquitto(t testing.TB, file string) (pid int) {
	t.Helper()
	cmd := exec.Command(MosquittoPath(t), "-c", file)
	dieWithUs(cmd)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running, ended := make(chan struct{}), make(chan struct{})
	var said strings.Builder // until ended is closed, of the goroutine
	go func() {
		defer close(ended)
		up := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if !up && strings.HasSuffix(lines.Text(), " running") {
				up = true
				close(running)
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // just after it says "running" it forgets a signal to stop
		<-ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("mosquitto:\n%s", said.String())
		}
	})
	select {
	case <-running:
	case <-ended:
		t.Fatal("mosquitto did not start")
	case <-time.After(time.Minute):
		t.Fatal("mosquitto does not say that it is running")
	}
	return cmd.Process.Pid
}

// FreeAddress is a host:port of this machine that nobody listened on a moment
// ago. It is below the ports that systems give to who asks for any, or who
// connects, so that in the next moment it is not one of theirs.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// MosquittoListener is the line that makes Mosquitto listen at address.
func MosquittoListener(address string) string {
	host, port, _ := net.SplitHostPort(address)
	return "listener " + port + " " + host
}
