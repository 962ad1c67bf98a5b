// Command webhook is a receiver of wilco's webhooks: it checks their signatures,
// forgets those that come again, and prints the rest.
//
//	wilco hook add books --url http://127.0.0.1:9753/ --allow-private >secret
//	go run ./examples/webhook --listen 127.0.0.1:9753 --secret "$(cat secret)"
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/wilco-iot/wilco/client"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9753", "address")
	secret := flag.String("secret", "", "of the hook, whsec_...")
	flag.Parse()
	server := &http.Server{Addr: *listen, Handler: &receiver{secret: *secret, seen: map[string]bool{}}, ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	closed := context.AfterFunc(ctx, func() { _ = server.Close() }) // what is cut off comes again
	defer closed()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, "webhook:", err)
		os.Exit(1)
	}
}

type receiver struct {
	secret string

	mu   sync.Mutex
	seen map[string]bool // a program that must remember keeps this on its disk
}

// ServeHTTP takes one webhook. What it answers with 2xx does not come again.
func (v *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, "the body broke off", http.StatusBadRequest)
		return
	}
	m, err := client.ParseWebhook(v.secret, r.Header, body, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seen[m.ID] {
		return
	}
	v.seen[m.ID] = true
	fmt.Println(m.Device, m.Name, m.State, string(m.Result))
}
