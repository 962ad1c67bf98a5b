package demo

import (
	"io"
	"net"
	"testing"
)

// echo answers each connection with what it says.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return l.Addr().String()
}

func TestALineThatIsCutAnswersWhenItIsWholeAgain(t *testing.T) {
	l, err := newLine(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	call := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		return c
	}
	answered := func(c net.Conn) error {
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	before := call()
	if err := answered(before); err != nil {
		t.Fatal(err)
	}
	l.cut()
	if err := answered(before); err == nil {
		t.Error("a connection has outlived the cut")
	}
	during := call()
	l.mend()
	if err := answered(during); err != nil {
		t.Errorf("who called while it was cut: %v", err)
	}
	l.cut()
	waits := call()
	if err := l.close(); err != nil {
		t.Error(err)
	}
	if err := answered(waits); err == nil {
		t.Error("a line that is closed has answered")
	}
}
