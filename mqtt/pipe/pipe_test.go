package pipe_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/mqtt/pipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWriteDoesNotWaitForAReader(t *testing.T) {
	a, b := pipe.Pipe()
	for _, s := range []string{"one ", "two ", "three"} {
		if n, err := io.WriteString(a, s); n != len(s) || err != nil {
			t.Fatalf("write %q: %d, %v", s, n, err)
		}
	}
	got := make([]byte, 64)
	n, err := b.Read(got)
	if err != nil || string(got[:n]) != "one two three" {
		t.Fatalf("read %q, %v; want all three writes at once", got[:n], err)
	}
}

// Random chunk sizes on both sides must give the same bytes, whatever way the
// ring wraps and grows.
func TestBytesArriveInOrder(t *testing.T) {
	a, b := pipe.Pipe()
	const total = 4 << 20
	sent := make([]byte, total)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range sent {
		sent[i] = byte(rng.Uint32())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for p := sent; len(p) > 0; {
			n := min(len(p), 1+rng.IntN(100_000))
			if m, err := a.Write(p[:n]); m != n || err != nil {
				t.Errorf("write: %d of %d, %v", m, n, err)
				return
			}
			p = p[n:]
		}
		a.Close()
	})
	var got bytes.Buffer
	sizes := rand.New(rand.NewPCG(3, 4))
	chunk := make([]byte, 70_000)
	for {
		n, err := b.Read(chunk[:1+sizes.IntN(len(chunk))])
		got.Write(chunk[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if !bytes.Equal(got.Bytes(), sent) {
		t.Fatalf("%d bytes arrived, not the %d sent", got.Len(), len(sent))
	}
}

func TestCloseLikeTCP(t *testing.T) {
	a, b := pipe.Pipe()
	io.WriteString(a, "last words")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
	if got, err := io.ReadAll(b); string(got) != "last words" || err != nil {
		t.Errorf("the peer read %q, %v", got, err)
	}
	for name, try := range map[string]func() (int, error){
		"write after own close":  func() (int, error) { return a.Write([]byte("x")) },
		"write after peer close": func() (int, error) { return b.Write([]byte("x")) },
		"read after own close":   func() (int, error) { return a.Read(make([]byte, 1)) },
	} {
		if n, err := try(); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: %d, %v; want io.ErrClosedPipe", name, n, err)
		}
	}
}

func TestFullBufferBlocksUntilReadClosedOrTooLate(t *testing.T) {
	for _, tc := range []struct {
		name string
		free func(a, b net.Conn)
		n    int
		want error
	}{
		{"read", func(_, b net.Conn) { io.CopyN(io.Discard, b, 10) }, 10, nil},
		{"peer closes", func(_, b net.Conn) { b.Close() }, 0, io.ErrClosedPipe},
		{"own close", func(a, _ net.Conn) { a.Close() }, 0, io.ErrClosedPipe},
		{"deadline", func(a, _ net.Conn) { a.SetWriteDeadline(time.Now().Add(time.Second)) }, 0, os.ErrDeadlineExceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := pipe.Pipe()
				if n, err := a.Write(make([]byte, pipe.Limit)); n != pipe.Limit || err != nil {
					t.Fatalf("filling: %d, %v", n, err)
				}
				var n int
				var err error
				ended := false
				go func() {
					n, err = a.Write(make([]byte, 10))
					ended = true
				}()
				synctest.Wait()
				if ended {
					t.Fatal("a write into a full buffer did not block")
				}
				tc.free(a, b)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if !ended || n != tc.n || !errors.Is(err, tc.want) {
					t.Errorf("ended %v: %d, %v; want %d, %v", ended, n, err, tc.n, tc.want)
				}
			})
		})
	}
}

func TestReadDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe.Pipe()
		defer a.Close()
		start := time.Now()
		b.SetReadDeadline(start.Add(3 * time.Second))
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read: %v", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("the deadline came after %v", d)
		}
		var ne net.Error
		if _, err := b.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("a passed deadline must stay: %v", err)
		}
		// A later deadline replaces it, also while a read waits.
		b.SetDeadline(time.Now().Add(time.Second))
		done := make(chan error, 1)
		go func() {
			_, err := b.Read(make([]byte, 1))
			done <- err
		}()
		synctest.Wait()
		b.SetReadDeadline(time.Now().Add(time.Hour))
		time.Sleep(time.Minute)
		select {
		case err := <-done:
			t.Fatalf("the read ended at the replaced deadline: %v", err)
		default:
		}
		io.WriteString(a, "x")
		if err := <-done; err != nil {
			t.Errorf("read: %v", err)
		}
		b.SetReadDeadline(time.Now().Add(time.Hour)) // must not outlive Close
		b.Close()
	})
}

func TestConcurrentWritesDoNotInterleave(t *testing.T) {
	a, b := pipe.Pipe()
	const size, writers, rounds = 100_000, 4, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			p := bytes.Repeat([]byte{byte(w)}, size)
			for range rounds {
				a.Write(p)
			}
		})
	}
	got := make([]byte, size)
	for i := range writers * rounds {
		if _, err := io.ReadFull(b, got); err != nil {
			t.Fatal(err)
		}
		if c := bytes.Count(got, got[:1]); c != size {
			t.Fatalf("write %d is mixed with another: %d of %d bytes", i, c, size)
		}
	}
	wg.Wait()
}
