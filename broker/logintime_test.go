package broker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestLoginTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		in := func() *loginTime {
			return &loginTime{Context: context.Background(), until: time.Now().Add(time.Second)}
		}
		ctx := in()
		if err := ctx.Err(); err != nil {
			t.Errorf("over before its time: %v", err)
		}
		<-ctx.Done()
		if ctx.Err() != context.DeadlineExceeded || time.Since(begin) != time.Second {
			t.Errorf("ended after %s: %v", time.Since(begin), ctx.Err())
		}
		ctx.end()
		for _, waited := range []bool{false, true} { // who keeps it is told
			ctx := in()
			if waited {
				ctx.Done()
			}
			ctx.end()
			<-ctx.Done()
			if ctx.Err() != context.Canceled {
				t.Errorf("after the login: %v", ctx.Err())
			}
		}
	})
}
