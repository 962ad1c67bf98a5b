package archtest

import (
	"path"
	"strings"
	"testing"
	"testing/fstest"
)

// TestRulesFindWhatTheyForbid gives each rule something that it must find, and
// something close to it that it must leave alone.
func TestRulesFindWhatTheyForbid(t *testing.T) {
	const doc = "// Package p is documented.\n"
	tests := []struct {
		name, path, src string
		want            string // part of the one complaint; "" for none
	}{
		{"down", "broker/a.go", doc + `package broker; import _ "github.com/wilco-iot/wilco/mqtt"`, ""},
		{"up", "wire/a.go", doc + `package wire; import _ "github.com/wilco-iot/wilco/broker/session"`, "imports point down only"},
		{"beside", "internal/engine/a.go", doc + `package engine; import _ "github.com/wilco-iot/wilco/internal/fleet"`, "stands beside it"},
		{"a test is free", "internal/engine/a_test.go", doc + `package engine; import _ "github.com/wilco-iot/wilco/internal/app"`, ""},
		{"unknown package", "internal/new/a.go", doc + `package new`, "give it a line in internal/archtest/layers_test.go"},
		{"public takes internal", "device/a.go", doc + `package device; import _ "github.com/wilco-iot/wilco/internal/fault"`, "is public"},
		{"public takes its own internal", "device/a.go", doc + `package device; import _ "github.com/wilco-iot/wilco/device/internal/ledger"`, ""},
		{"std only", "mqtt/a.go", doc + `package mqtt; import _ "github.com/google/uuid"`, "standard library only"},
		{"std", "mqtt/a.go", doc + `package mqtt; import _ "encoding/binary"`, ""},
		{"pure, net", "wire/a.go", doc + `package wire; import _ "net/url"`, "is pure"},
		{"pure, os", "internal/command/a.go", doc + `package command; import _ "os"`, "is pure"},
		{"pure, slog", "broker/session/a.go", doc + `package session; import _ "log/slog"`, "is pure"},
		{"pure, randomness", "order/a.go", doc + `package order; import _ "math/rand/v2"`, "is pure"},
		{"pure, random id", "internal/command/a.go", doc + `package command; import "github.com/google/uuid"; var x = uuid.NewString()`, "uses uuid.NewString"},
		{"pure, clock", "internal/command/a.go", doc + `package command; import "time"; var x = time.Now()`, "uses time.Now"},
		{"pure, renamed clock", "internal/command/a.go", doc + `package command; import t "time"; var x = t.Since`, "uses t.Since"},
		{"pure, no clock", "internal/command/a.go", doc + `package command; import "time"; var x = time.Second`, ""},
		{"pure, own Now", "internal/command/a.go", doc + `package command; type t struct{}; func (t) Now() {}; var time t; func f() { time.Now() }`, ""},
		{"pure tests may", "internal/command/a_test.go", doc + `package command; import "time"; var x = time.Now()`, ""},
		{"pure takes impure", "internal/replica/a.go", doc + `package replica; import _ "github.com/wilco-iot/wilco/mqtt/pipe"`, "is not pure"},
		{"no pure clock elsewhere", "broker/a.go", doc + `package broker; import "time"; var x = time.Now()`, ""},
		{"test dependency", "broker/a.go", doc + `package broker; import _ "pgregory.net/rapid"`, "for tests only"},
		{"test dependency, deeper", "broker/a.go", doc + `package broker; import _ "github.com/eclipse/paho.golang/autopaho"`, "for tests only"},
		{"testing", "broker/a.go", doc + `package broker; import _ "testing"`, "for tests only"},
		{"testing in a suite", "internal/store/storetest/a.go", doc + `package storetest; import _ "testing"`, ""},
		{"suite in a program", "internal/store/sqlite/a.go", doc + `package sqlite; import _ "github.com/wilco-iot/wilco/internal/store/storetest"`, "for tests only"},
		{"test dependency in a test", "broker/a_test.go", doc + `package broker; import _ "pgregory.net/rapid"`, ""},
		{"sleep", "broker/a_test.go", doc + `package broker; import "time"; func f() { time.Sleep(1) }`, "sleeps"},
		{"virtual sleep", "broker/a_test.go", doc + `package broker; import ("time"; _ "testing/synctest"); func f() { time.Sleep(1) }`, ""},
		{"sleep with a reason", "broker/peer_test.go", doc + `package broker; import "time"; func f() { time.Sleep(1) }`, ""},
		{"no comment", "broker/a.go", `package broker`, "no package comment"},
		{"unfinished", "broker/a.go", doc + "package broker\n// TO" + "DO: more\n", "do it, or write an issue"},
		{"unfinished in a string", "broker/a.go", doc + `package broker; const x = "TO` + `DO"`, ""},
		{"file name", "broker/helpers.go", doc + `package broker`, "file's name says nothing"},
		{"test file name", "broker/util_test.go", doc + `package broker`, "file's name says nothing"},
		{"package name", "examples/x/a.go", doc + `package common`, "package's name, common"},
		{"long", "broker/a.go", doc + "package broker\n" + strings.Repeat("\n", maxLines), "want two files"},
		{"long test", "broker/a_test.go", doc + "package broker\n" + strings.Repeat("\n", maxLines), ""},
		{"not ours", "broker/testdata/helpers.go", `package util`, ""},
		{"below a tree", "cmd/wilco/main.go", doc + `package main; import _ "github.com/wilco-iot/wilco/internal/cli"`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files, err := load(fstest.MapFS{tt.path: {Data: []byte(tt.src)}})
			if err != nil {
				t.Fatal(err)
			}
			said := check(files)
			switch {
			case tt.want == "" && len(said) > 0:
				t.Errorf("complains: %q", said)
			case tt.want != "" && (len(said) != 1 || !strings.Contains(said[0], tt.want)):
				t.Errorf("want one complaint with %q, got %q", tt.want, said)
			}
		})
	}
}

func TestTheTableIsInOrder(t *testing.T) {
	for file, why := range mayPoll {
		if place, ok := find(path.Dir(file)); !ok || !strings.HasSuffix(file, "_test.go") || why == "" || place.marked(pure) {
			t.Errorf("mayPoll: %s is no test, has no reason, or tests a pure core, which never has to wait", file)
		}
	}
	seen := map[string]bool{}
	for _, l := range layers {
		for _, u := range l.units {
			if seen[u.path] || u.why == "" || l.name == "" {
				t.Errorf("%s: listed twice, or without a reason", u.path)
			}
			seen[u.path] = true
			if u.is&pure != 0 && u.is&tests != 0 || u.is&public != 0 && strings.HasPrefix(u.path, "internal/") {
				t.Errorf("%s: marks that exclude each other", u.path)
			}
		}
	}
}
