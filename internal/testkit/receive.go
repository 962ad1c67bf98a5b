package testkit

import (
	"runtime"
	"testing"
	"time"
)

// Receive is what comes on c, or the zero value when c is closed. When neither
// happens in a minute it fails the test, and shows what every goroutine waits for.
func Receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case x := <-c:
		return x
	case <-late.C:
		stacks := make([]byte, 1<<20)
		t.Fatalf("nothing came\n%s", stacks[:runtime.Stack(stacks, true)])
		panic("unreachable")
	}
}
