package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
)

// quick makes passwords cheap.
var quick = cost{memory: 8, passes: 1, threads: 1}

const remoteAddress = "192.0.2.1:999"

func (r *rig) user(name, password string, grants ...Grant) {
	r.t.Helper()
	if _, err := r.AddUser(r.t.Context(), NewUser{Name: name, Password: password, Grants: grants}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) session(name, password string) string {
	r.t.Helper()
	_, text, err := r.LoginUser(r.t.Context(), name, password, remoteAddress)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

func TestUsersLogIn(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.user("ann", "correct horse", Grant{Role: Operator, Groups: []string{"site"}})
	text := r.session("ann", "correct horse")
	_, own, err := r.CreateToken(ctx, NewToken{Name: "laptop", User: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	r.restart()
	for _, token := range []string{text, own} {
		if p, err := r.VerifyToken(ctx, token); err != nil || p.Name != "ann" || Text(p.Grants) != "operator@site" || p.Token == "" {
			t.Errorf("%+v %v", p, err)
		}
	}
	// What changes holds at once, for all.
	if _, err := r.ChangeUser(ctx, "ann", UserChange{Grants: Everywhere(Viewer)}); err != nil {
		t.Fatal(err)
	}
	if p, err := r.VerifyToken(ctx, text); err != nil || Text(p.Grants) != "viewer" {
		t.Errorf("%+v %v", p, err)
	}
	r.now = r.now.Add(SessionTTL)
	_, err = r.VerifyToken(ctx, text)
	wantCode(t, err, fault.Unauthenticated)
	if _, err := r.VerifyToken(ctx, own); err != nil {
		t.Error(err)
	}
	r.session("ann", "correct horse") // takes the expired one away
	if list, _ := r.Tokens(ctx); len(list) != 2 {
		t.Errorf("%d tokens", len(list))
	}
}

func TestWhatEndsSessions(t *testing.T) {
	off, on := true, false
	for name, end := range map[string]func(*rig) error{
		"password": func(r *rig) error { _, err := r.SetPassword(r.t.Context(), "ann", "battery staple"); return err },
		"disable": func(r *rig) error {
			_, err := r.ChangeUser(r.t.Context(), "ann", UserChange{Disabled: &off})
			return err
		},
		"remove": func(r *rig) error { return r.RemoveUser(r.t.Context(), "ann") },
	} {
		r := newRig(t)
		r.user("ann", "correct horse", Grant{Role: Admin})
		text := r.session("ann", "correct horse")
		_, own, err := r.CreateToken(t.Context(), NewToken{Name: "laptop", User: "ann"})
		if err != nil {
			t.Fatal(err)
		}
		if err := end(r); err != nil {
			t.Fatal(name, err)
		}
		for range 2 {
			_, err = r.VerifyToken(t.Context(), text)
			wantCode(t, err, fault.Unauthenticated)
			_, err = r.VerifyToken(t.Context(), own)
			if (err == nil) != (name == "password") {
				t.Errorf("%s: the token: %v", name, err)
			}
			_, _, err = r.LoginUser(t.Context(), "ann", "correct horse", remoteAddress)
			wantCode(t, err, fault.Unauthenticated)
			r.restart()
		}
		if !slices.Contains(r.changes, "ann") && !slices.Contains(r.changes, "ann removed") {
			t.Errorf("%s: connections were not cut: %q", name, r.changes)
		}
		if name != "disable" {
			continue
		}
		if _, err := r.ChangeUser(t.Context(), "ann", UserChange{Disabled: &on}); err != nil {
			t.Fatal(err)
		}
		if _, err = r.VerifyToken(t.Context(), own); err != nil {
			t.Error(err)
		}
		_, err = r.VerifyToken(t.Context(), text)
		wantCode(t, err, fault.Unauthenticated)
	}
}

// TestOneNameIsOneParty: neither a token nor a user takes the name of the other.
func TestOneNameIsOneParty(t *testing.T) {
	r := newRig(t)
	r.user("ann", "correct horse", Grant{Role: Viewer})
	_, _, err := r.CreateToken(t.Context(), NewToken{Name: "ann", Grants: Everywhere(Approver)})
	wantCode(t, err, fault.Exists)
	if _, _, err := r.CreateToken(t.Context(), NewToken{Name: "bo", Grants: Everywhere(Approver)}); err != nil {
		t.Fatal(err)
	}
	_, err = r.AddUser(t.Context(), NewUser{Name: "bo", Password: "correct horse", Grants: Everywhere(Viewer)})
	wantCode(t, err, fault.Exists)
	_, err = r.AddUser(t.Context(), NewUser{Name: "ann", Password: "correct horse", Grants: Everywhere(Viewer)})
	wantCode(t, err, fault.Exists)
	_, _, err = r.CreateToken(t.Context(), NewToken{Name: "x", User: "cy"})
	wantCode(t, err, fault.NotFound)
	_, _, err = r.CreateToken(t.Context(), NewToken{Name: "x", User: "ann", Grants: Everywhere(Viewer)})
	wantCode(t, err, fault.Invalid)
}

func TestUsersAreChecked(t *testing.T) {
	r := newRig(t)
	for field, n := range map[string]NewUser{
		"name":     {Name: "a/b", Password: "correct horse", Grants: Everywhere(Viewer)},
		"password": {Name: "a", Password: "short", Grants: Everywhere(Viewer)},
		"grants":   {Name: "a", Password: "correct horse"},
	} {
		_, err := r.AddUser(t.Context(), n)
		if e := fault.From(err); e == nil || e.Code != fault.Invalid || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	_, err := r.ChangeUser(t.Context(), "a", UserChange{})
	wantCode(t, err, fault.NotFound)
	_, err = r.SetPassword(t.Context(), "a", "correct horse")
	wantCode(t, err, fault.NotFound)
	wantCode(t, r.RemoveUser(t.Context(), "a"), fault.NotFound)
	r.user("a", "correct horse", Grant{Role: Viewer})
	r.opt.Store = failing{r.db}
	_, err = r.ChangeUser(t.Context(), "a", UserChange{Grants: Everywhere(Admin)})
	wantCode(t, err, fault.StorageFull)
	wantCode(t, r.RemoveUser(t.Context(), "a"), fault.StorageFull)
	_, _, err = r.LoginUser(t.Context(), "a", "correct horse", remoteAddress)
	wantCode(t, err, fault.StorageFull)
	if u, ok := r.User("a"); !ok || Text(u.Grants) != "viewer" || len(r.tokens) != 0 {
		t.Error("something changed in memory only")
	}
}

// TestAllFailuresAreAlike: who fails learns nothing about who exists.
func TestAllFailuresAreAlike(t *testing.T) {
	r := newRig(t)
	r.user("ann", "correct horse", Grant{Role: Viewer})
	r.user("off", "correct horse", Grant{Role: Viewer})
	off := true
	if _, err := r.ChangeUser(t.Context(), "off", UserChange{Disabled: &off}); err != nil {
		t.Fatal(err)
	}
	texts := map[string]bool{}
	for i, c := range [][2]string{{"ann", "wrong"}, {"ann", ""}, {"nobody", "correct horse"}, {"off", "correct horse"}, {"a/b", "x"}, {"", ""},
		{"ann", strings.Repeat("x", 5000)}} {
		_, _, err := r.LoginUser(t.Context(), c[0], c[1], fmt.Sprintf("192.0.2.%d:1", i))
		wantCode(t, err, fault.Unauthenticated)
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("answers differ: %v", texts)
	}
}

// TestGuessingIsBounded: after too many failures even the right password waits,
// from there; from elsewhere it does not, until very many places have failed.
func TestGuessingIsBounded(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.user("ann", "correct horse", Grant{Role: Viewer})
	fails := func(remote, name string, want fault.Code) {
		t.Helper()
		_, err := r.CheckPassword(ctx, name, "wrong", remote)
		wantCode(t, err, want)
	}
	for range limits[pair].burst {
		fails("192.0.2.1:1", "ann", fault.Unauthenticated)
	}
	fails("192.0.2.1:2", "ann", fault.TooMany)
	_, err := r.CheckPassword(ctx, "ann", "correct horse", "192.0.2.1:3")
	wantCode(t, err, fault.TooMany)
	if _, err := r.CheckPassword(ctx, "ann", "correct horse", "192.0.2.2:1"); err != nil {
		t.Error("from elsewhere", err)
	}
	r.now = r.now.Add(limits[pair].every)
	if _, err := r.CheckPassword(ctx, "ann", "correct horse", "192.0.2.1:1"); err != nil {
		t.Error("after a while", err)
	}
	// An address, over many names.
	for i := range limits[address].burst {
		fails("[2001:db8::"+fmt.Sprint(i)+"]:1", fmt.Sprintf("u%d", i), fault.Unauthenticated)
	}
	fails("[2001:db8::ffff]:1", "other", fault.TooMany)
	fails("2001:db8::fffe", "other", fault.TooMany) // as a proxy writes it
	fails("[2001:db8:0:1::1]:1", "other", fault.Unauthenticated)
	// A user, from many addresses.
	r.now = r.now.Add(time.Hour)
	for i := range limits[account].burst {
		fails(fmt.Sprintf("198.51.100.%d:1", i), "ann", fault.Unauthenticated)
	}
	_, err = r.CheckPassword(ctx, "ann", "correct horse", "203.0.113.1:1")
	wantCode(t, err, fault.TooMany)
}

func TestAttemptsAreBoundedInMemory(t *testing.T) {
	var a attempts
	now := time.Unix(1, 0)
	refused := 0
	for i := range maxBuckets {
		if a.begin(now, fmt.Sprintf("u%d", i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)) > 0 {
			refused++
		}
	}
	if refused == 0 || len(a.full) > maxBuckets+len(limits) {
		t.Errorf("%d refused, %d remembered", refused, len(a.full))
	}
	if wait := a.begin(now.Add(time.Hour), "ann", "192.0.2.1"); wait != 0 || len(a.full) != len(limits) {
		t.Errorf("after an hour: %s, %d remembered", wait, len(a.full))
	}
}

// TestSessionsAreBounded: the oldest make room.
func TestSessionsAreBounded(t *testing.T) {
	r := newRig(t)
	r.user("ann", "correct horse", Grant{Role: Viewer})
	first := r.session("ann", "correct horse")
	r.now = r.now.Add(time.Second)
	for range maxSessions {
		r.session("ann", "correct horse")
	}
	_, err := r.VerifyToken(t.Context(), first)
	wantCode(t, err, fault.Unauthenticated)
	if list, _ := r.Tokens(t.Context()); len(list) != maxSessions {
		t.Errorf("%d sessions", len(list))
	}
}

func TestPasswordHash(t *testing.T) {
	if h := costOfPasswords.hashPassword("correct horse"); !strings.HasPrefix(h, "$argon2id$v=19$m=65536,t=3,p=1$") {
		t.Error(h)
	}
	if h := (cost{memory: 64, passes: 2, threads: 4}).hashPassword("correct horse"); !passwordOpens(h, "correct horse") {
		t.Error("of another cost:", h)
	}
	h := quick.hashPassword("correct horse")
	if !passwordOpens(h, "correct horse") || passwordOpens(h, "correct horsf") {
		t.Error(h)
	}
	for _, bad := range []string{"", "x", "$$$$$", "$argon2id$v=19$m=8,t=0,p=1$AAAA$AAAA", "$argon2i" + h[len("$argon2id"):], h[:len(h)-4], strings.Replace(h, "v=19", "v=18", 1)} {
		if passwordOpens(bad, "correct horse") {
			t.Errorf("%q opens", bad)
		}
	}
	if again := quick.hashPassword("correct horse"); again == h {
		t.Error("the salt is always the same")
	}
}

// TestTooManyLoginsAtOnce: who finds no place to hash before its time is over is told
// so, and beyond those who may wait, everybody at once, which counts as no failure.
func TestTooManyLoginsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Options{})
		for range maxHashes {
			if _, err := f.hashing(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		told := make(chan error, maxWaiting)
		for range maxWaiting {
			go func() { _, err := f.hashing(ctx); told <- err }()
		}
		synctest.Wait()
		for range 2 * limits[pair].burst {
			_, err := f.CheckPassword(t.Context(), "ann", "wrong", remoteAddress)
			wantCode(t, err, fault.TooMany)
		}
		for range maxWaiting {
			wantCode(t, <-told, fault.TooMany)
		}
		if wait := f.attempts.begin(f.opt.Now(), "ann", origin(remoteAddress)); wait > 0 {
			t.Errorf("told to wait for %s", wait)
		}
	})
}

// TestAPasswordIsHashedOnce: the second time it costs no place; another one does, and
// so do that of a user who has got another since, of one who is disabled, and of the
// next of the name.
func TestAPasswordIsHashedOnce(t *testing.T) {
	r := newRig(t)
	r.user("ann", "correct horse", Grant{Role: Viewer})
	for range maxHashes {
		if _, err := r.hashing(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	busy := func(password string) {
		t.Helper()
		_, err := r.CheckPassword(late, "ann", password, remoteAddress)
		wantCode(t, err, fault.TooMany)
	}
	free := func(do func(context.Context) error) {
		t.Helper()
		<-r.hashes
		if err := do(t.Context()); err != nil {
			t.Error(err)
		}
		r.hashes <- struct{}{}
	}
	check := func(password string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := r.CheckPassword(ctx, "ann", password, remoteAddress)
			return err
		}
	}
	again := func(password string) {
		t.Helper()
		for range 10 * limits[address].burst {
			if err := check(password)(late); err != nil {
				t.Fatal(err)
			}
		}
	}
	busy("correct horse")
	free(check("correct horse"))
	again("correct horse")
	busy("correct horsf")
	free(func(ctx context.Context) error { _, err := r.SetPassword(ctx, "ann", "battery staple"); return err })
	busy("correct horse")
	free(check("battery staple"))
	again("battery staple")
	r.disableUser("ann", true)
	busy("battery staple")
	r.disableUser("ann", false)
	again("battery staple")
	if err := r.RemoveUser(t.Context(), "ann"); err != nil || len(r.opened.macs) != 0 {
		t.Error(err, len(r.opened.macs))
	}
}

func (r *rig) disableUser(name string, off bool) {
	r.t.Helper()
	if _, err := r.ChangeUser(r.t.Context(), name, UserChange{Disabled: &off}); err != nil {
		r.t.Fatal(err)
	}
}

// TestTheFirstTokenHasAName: a user who has taken its name keeps nobody out.
func TestTheFirstTokenHasAName(t *testing.T) {
	r := newRig(t)
	r.user("first-admin", "correct horse", Grant{Role: Viewer})
	text, err := r.AdminToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := r.VerifyToken(t.Context(), text); err != nil || p.Name != "first-admin-2" || Text(p.Grants) != "admin" {
		t.Errorf("%+v %v", p, err)
	}
}

// TestWhatIsKeptForANameGoesWithItsLastToken: the next of that name is another.
func TestWhatIsKeptForANameGoesWithItsLastToken(t *testing.T) {
	r := newRig(t)
	var ids []string
	for range 2 {
		made, _, err := r.CreateToken(t.Context(), NewToken{Name: "panel", Grants: Everywhere(Operator)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, made.ID)
	}
	for _, id := range ids {
		if err := r.RemoveToken(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"panel", "panel removed"}; !slices.Equal(r.changes, want) {
		t.Errorf("told %q", r.changes)
	}
}

// TestWhatHasEndedIsForgotten: sessions at once, tokens after a while; a name that a
// token had is free again then, and not before.
func TestWhatHasEndedIsForgotten(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.user("ann", "correct horse", Grant{Role: Viewer})
	for range 3 {
		r.session("ann", "correct horse")
	}
	create := func(n NewToken) {
		if _, _, err := r.CreateToken(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	create(NewToken{Name: "laptop", User: "ann", TTL: time.Hour})
	for range forgetAtOnce {
		create(NewToken{Name: "panel", Grants: Everywhere(Operator), TTL: time.Hour})
	}
	create(NewToken{Name: "stays", Grants: Everywhere(Operator)})
	r.changes = nil
	left := func(want int) {
		t.Helper()
		if err := r.Forget(ctx, r.now.Add(-24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if list, _ := r.Tokens(ctx); len(list) != want {
				t.Errorf("%d tokens, want %d", len(list), want)
			}
			r.restart()
		}
	}
	left(forgetAtOnce + 5)
	r.now = r.now.Add(SessionTTL)
	left(forgetAtOnce + 2) // without the sessions
	_, err := r.AddUser(ctx, NewUser{Name: "panel", Password: "correct horse", Grants: Everywhere(Viewer)})
	wantCode(t, err, fault.Exists)
	if r.changes != nil {
		t.Errorf("told %q", r.changes)
	}
	r.now = r.now.Add(24 * time.Hour)
	r.opt.Store = failing{r.db}
	wantCode(t, r.Forget(ctx, r.now), fault.StorageFull)
	r.opt.Store = r.db
	left(1)
	if want := []string{"panel removed"}; !slices.Equal(r.changes, want) {
		t.Errorf("told %q", r.changes)
	}
	r.user("panel", "correct horse", Grant{Role: Viewer})
}

// waiting tells when somebody begins to wait for it.
type waiting struct {
	context.Context
	begin func()
}

func (w waiting) Done() <-chan struct{} { w.begin(); return w.Context.Done() }

// TestNoPasswordForAnother: who might give a user's password when it asked does not
// become, by waiting, who has given that of a user with more rights.
func TestNoPasswordForAnother(t *testing.T) {
	r := newRig(t)
	r.user("ann", "correct horse", Grant{Role: Viewer})
	for range maxHashes {
		if _, err := r.hashing(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	begun, ended := make(chan struct{}), make(chan error)
	go func() {
		_, err := r.SetPassword(waiting{t.Context(), sync.OnceFunc(func() { close(begun) })}, "ann", "battery staple")
		ended <- err
	}()
	<-begun
	if _, err := r.ChangeUser(t.Context(), "ann", UserChange{Grants: Everywhere(Admin)}); err != nil {
		t.Fatal(err)
	}
	<-r.hashes
	wantCode(t, <-ended, fault.Conflict)
	r.session("ann", "correct horse")
}

// TestManyClientsOfOneUser connect at once, just after a start when nothing is
// remembered yet: all have the right password, and none is a failure.
func TestManyClientsOfOneUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Options{})
		f.users["ann"] = User{Name: "ann", Password: quick.hashPassword("correct horse")}
		done, err := f.hashing(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		clients := 4 * limits[pair].burst
		told := make(chan error, clients)
		for range clients {
			go func() {
				_, err := f.CheckPassword(t.Context(), "ann", "correct horse", remoteAddress)
				told <- err
			}()
		}
		synctest.Wait()
		done()
		for range clients {
			if err := <-told; err != nil {
				t.Error(err)
			}
		}
		if n := len(f.attempts.lines); n != 0 {
			t.Errorf("%d lines are kept", n)
		}
	})
}

// TestAPasswordThatWasRightWhenTheWaitBegan: who waits for a turn while the user is
// disabled or gets another password comes after that.
func TestAPasswordThatWasRightWhenTheWaitBegan(t *testing.T) {
	for what, end := range map[string]func(*Fleet){
		"disabled": func(f *Fleet) { u := f.users["ann"]; u.Disabled = true; f.users["ann"] = u },
		"another password": func(f *Fleet) {
			u := f.users["ann"]
			u.Password = quick.hashPassword("battery staple")
			f.users["ann"] = u
		},
		"gone": func(f *Fleet) { delete(f.users, "ann") },
	} {
		synctest.Test(t, func(t *testing.T) {
			f := New(Options{})
			f.users["ann"] = User{Name: "ann", Password: quick.hashPassword("correct horse")}
			done, err := f.hashing(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			told := make(chan error)
			go func() {
				_, err := f.CheckPassword(t.Context(), "ann", "correct horse", remoteAddress)
				told <- err
			}()
			synctest.Wait()
			f.mu.Lock()
			end(f)
			f.mu.Unlock()
			done()
			if err := <-told; fault.CodeOf(err) != fault.Unauthenticated {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
}

// TestOthersKeepNobodyOut of where it was right before, however many fail in its name or
// in all: there it is bounded by its own failures alone.
func TestOthersKeepNobodyOut(t *testing.T) {
	var a attempts
	now := time.Now()
	for i := range 2 * maxKnown {
		from := fmt.Sprint("place", i)
		if wait := a.begin(now, "ann", from); wait > 0 {
			t.Fatal("kept out at", from)
		}
		a.succeeded("ann", from)
	}
	if n := len(a.known["ann"]); n != maxKnown {
		t.Errorf("%d places are known", n)
	}
	home := fmt.Sprint("place", 2*maxKnown-1)
	for i := range 2 * limits[account].burst {
		a.begin(now, "ann", fmt.Sprint("elsewhere", i))
	}
	wait := func(user, from string) bool { return a.begin(now, user, from) > 0 }
	if !wait("ann", "place0") || wait("ann", home) {
		t.Error("those who fail in its name do not tell home from elsewhere")
	}
	a.succeeded("ann", home)
	for i := 0; len(a.full) < maxBuckets; i++ {
		a.begin(now, fmt.Sprint("user", i), fmt.Sprint("from", i))
	}
	if !wait("bo", home) || wait("ann", home) {
		t.Error("those who fail in all names do not tell home from elsewhere")
	}
	for range limits[pair].burst - 1 {
		if wait("ann", home) {
			t.Error("waits for less than it may fail")
		}
	}
	if !wait("ann", home) {
		t.Error("guesses at home without bound")
	}
	if a.forget("ann"); len(a.known) != 0 {
		t.Errorf("remembered: %v", a.known)
	}
}
