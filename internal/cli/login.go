package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) loginCommand() *cobra.Command {
	c := &cobra.Command{Use: "login NAME", Short: "Begin a session as a user; the password is asked for, or read from standard input", Args: a.args("NAME"),
		Long: "Begin a session as a user, for 12 hours. Its token is kept for this server in " + sessionsPlace + ", and used by all commands\n" +
			"that are given no other.",
		Example: "  wilco login ann --server https://wilco.example.com"}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		password, err := a.password("password of " + args[0])
		if err != nil {
			return err
		}
		c, err := a.connectAs("")
		if err != nil {
			return err
		}
		s, err := c.Login(ctx, args[0], password)
		if err != nil {
			return a.unreachable(err)
		}
		if err := a.keepSession(s); err != nil {
			return err
		}
		shown := struct {
			ID      string    `json:"id"`
			User    string    `json:"user"`
			Expires time.Time `json:"expires"`
		}{s.ID, s.User, s.Expires}
		return a.print(shown, func(w io.Writer) { fmt.Fprintf(w, "logged in as %s until %s\n", clean(s.User), stamp(s.Expires)) })
	})
	return c
}

func (a *app) logoutCommand() *cobra.Command {
	c := &cobra.Command{Use: "logout", Short: "End the session that wilco login has begun", Args: a.args()}
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		s, err := a.session()
		if err != nil {
			return err
		}
		if s == nil {
			return fault.New(fault.Conflict, "nobody is logged in at %s", a.url())
		}
		c, err := a.connectAs(s.Token)
		if err != nil {
			return err
		}
		// A session that is over already is what was wanted.
		if err := c.Logout(ctx); err != nil && !errors.Is(err, &client.Error{Code: string(fault.Unauthenticated)}) {
			return a.unreachable(err)
		}
		if err := a.keepSession(nil); err != nil {
			return err
		}
		return a.print(struct {
			User string `json:"user"`
		}{s.User}, func(w io.Writer) { fmt.Fprintf(w, "%s logged out\n", clean(s.User)) })
	})
	return c
}

const sessionsPlace = "~/.config/wilco/sessions.json"

// sessionsFile is where sessions are kept, by the URL of their server.
func (a *app) sessionsFile() (string, error) {
	dir := a.env("XDG_CONFIG_HOME")
	if dir == "" {
		home := first(a.env("HOME"), a.env("USERPROFILE"))
		if home == "" {
			return "", fault.New(fault.Invalid, "there is no place for the session: set HOME or XDG_CONFIG_HOME")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "wilco", "sessions.json"), nil
}

func (a *app) sessions() (map[string]*client.Session, error) {
	file, err := a.sessionsFile()
	if err != nil {
		return nil, nil // no place, no session
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var all map[string]*client.Session
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "the sessions in %s cannot be read: %v", file, err)
	}
	return all, nil
}

// session is that of the server, nil when nobody is logged in.
func (a *app) session() (*client.Session, error) {
	all, err := a.sessions()
	return all[a.url()], err
}

// keepSession keeps s for the server; nil forgets the one that is kept.
func (a *app) keepSession(s *client.Session) error {
	file, err := a.sessionsFile()
	if err != nil {
		return err
	}
	all, err := a.sessions()
	if err != nil {
		return err
	}
	if all == nil {
		all = map[string]*client.Session{}
	}
	if all[a.url()] = s; s == nil {
		delete(all, a.url())
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = writePrivate(file, append(b, '\n'))
	}
	if err != nil {
		return fault.New(fault.Internal, "the session cannot be kept: %v", err)
	}
	return nil
}

// writePrivate replaces a file at once by one that only this user can read.
func writePrivate(file string, b []byte) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "sessions-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what could not be written says more
	}
	return err
}
