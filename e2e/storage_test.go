package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	_ "modernc.org/sqlite" // the driver of the program that holds the lock

	"github.com/wilco-iot/wilco/client"
)

// TestDatabaseLocked has another program hold the database's write lock for
// longer than the server waits for it. Orders are refused as not available now,
// reading goes on, and when the lock is gone nothing is lost.
func TestDatabaseLocked(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	data := t.TempDir()
	srv, s := storageSite(t, seed, data)
	stop := s.load(20)
	t.Cleanup(stop)
	if err := within(patience, func() error { return atLeast(s.count(), 20) }); err != nil {
		t.Fatal(err)
	}

	release := lockDatabase(t, filepath.Join(data, "wilco.db"))
	t.Cleanup(release)
	status, problem := s.order(t, "locked", "")
	if status != http.StatusServiceUnavailable || problem.Code != "unavailable" {
		t.Errorf("status %d, problem %+v", status, problem)
	}
	if err := within(patience, func() error { return atLeast(int(s.repeated.Load()), 1) }); err != nil {
		t.Errorf("orders that were refused: %v", err)
	}
	if _, err := s.api.List(t.Context(), client.ListOptions{Limit: 1}); err != nil {
		t.Errorf("reading while somebody else writes: %v", err)
	}
	release()

	if err := within(patience, func() error { return accepted(s.order(t, "after", "")) }); err != nil {
		t.Error(err)
	}
	stop()
	s.keep(t, "after")
	s.settle()
	s.auditLoosely()
	if err := srv.stop(); err != nil {
		t.Error(err)
	}
}

// TestDiskFull fills the server's disk while orders come in. Orders are refused
// because the storage is full; when there is room again everything goes on, and
// what was acknowledged is there, also after a kill.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	smallDisk(t, data, 48<<20)
	seed := seedOf(t)
	srv, s := storageSite(t, seed, data)
	stop := s.load(20)
	t.Cleanup(stop)
	if err := within(patience, func() error { return atLeast(s.count(), 20) }); err != nil {
		t.Fatal(err)
	}

	ballast := fill(t, filepath.Join(data, "ballast"))
	// SQLite may still write where it has room from before: some orders go through.
	big := strings.Repeat("x", 100_000)
	refused := false
	for n := range 400 {
		key := fmt.Sprintf("big-%d", n)
		status, problem := s.order(t, key, big)
		if status/100 == 2 {
			s.keep(t, key)
			continue
		}
		if refused = true; status != http.StatusInsufficientStorage || problem.Code != "storage_full" {
			t.Errorf("status %d, problem %+v", status, problem)
		}
		break
	}
	if !refused {
		t.Error("the disk is full, and all orders were taken")
	}
	if _, err := s.api.List(t.Context(), client.ListOptions{Limit: 1}); err != nil {
		t.Errorf("reading while the disk is full: %v", err)
	}
	if err := within(patience, func() error { return atLeast(int(s.repeated.Load()), 1) }); err != nil {
		t.Errorf("orders that were refused: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}

	if err := within(patience, func() error { return accepted(s.order(t, "after", "")) }); err != nil {
		t.Error(err)
	}
	s.keep(t, "after")
	stop()
	srv.kill()
	srv2, err := serve(storageEnv(data, srv.http, srv.tcp))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv2.kill() })
	s.settle()
	s.auditLoosely()
	if err := srv2.stop(); err != nil {
		t.Error(err)
	}
}

func storageEnv(data, web, tcp string) []string {
	return []string{"WILCO_DATA=" + data, "WILCO_HTTP_ADDRESS=" + web, "WILCO_MQTT_TCP=" + tcp, "WILCO_LOG_LEVEL=error"}
}

// storageSite starts a server over data, with a few devices.
func storageSite(t *testing.T, seed uint64, data string) (*server, *site) {
	t.Helper()
	web, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	srv, err := serve(storageEnv(data, web, tcp))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.kill)
	s := newSite(t, seed, web, adminToken(t, data), 8)
	s.powerOn(tcp)
	return srv, s
}

func atLeast(n, want int) error {
	if n < want {
		return fmt.Errorf("%d, want %d", n, want)
	}
	return nil
}

func accepted(status int, problem client.Error) error {
	if status/100 != 2 {
		return fmt.Errorf("status %d, problem %+v", status, problem)
	}
	return nil
}

// lastDevice gets the orders of these tests themselves.
func (s *site) lastDevice() string { return s.members[len(s.members)-1].Address.String() }

func (s *site) orderOf(key, params string) client.Order {
	o := client.Order{Name: "set", Policy: &hurried, Key: key}
	if params != "" {
		o.Params = json.RawMessage(fmt.Sprintf("%q", params))
	}
	return o
}

// order asks once, without the client's help, and returns what the server says.
func (s *site) order(t *testing.T, key, params string) (int, client.Error) {
	t.Helper()
	body, err := json.Marshal(s.orderOf(key, params))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/v1/devices/"+s.lastDevice()+"/commands", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	res, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var problem client.Error
	if res.StatusCode/100 != 2 {
		if kind := res.Header.Get("Content-Type"); kind != "application/problem+json" {
			t.Errorf("an error of type %q: %s", kind, b)
		}
		if err := json.Unmarshal(b, &problem); err != nil {
			t.Errorf("%v: %s", err, b)
		}
	}
	return res.StatusCode, problem
}

// keep takes an order that was accepted into the audit.
func (s *site) keep(t *testing.T, key string) {
	t.Helper()
	for c, err := range s.api.All(t.Context(), client.ListOptions{Group: "site", Device: strings.TrimPrefix(s.lastDevice(), "site/"), Limit: 1000}) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Key == key {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.made[key] = made{device: s.lastDevice(), tid: c.TID, order: client.Order{Name: c.Name, Policy: &hurried, Key: key, Params: c.Params}}
			return
		}
	}
	t.Errorf("the order %s was accepted and is not there", key)
}

// lockDatabase takes SQLite's write lock, as another program would.
func lockDatabase(t *testing.T, path string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(20000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(errors.Join(err, db.Close()))
	}
	held := true
	return func() {
		if !held {
			return
		}
		held = false
		if err := errors.Join(tx.Rollback(), db.Close()); err != nil {
			t.Error(err)
		}
	}
}

// fill writes a file until there is no room any more.
func fill(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk does not get full: %v", err)
	}
	return path
}
