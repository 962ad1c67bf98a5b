package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wilco-iot/wilco/internal/config"
)

// keepFirstToken makes an admin token when nobody could manage the server without it,
// or when its file is there and empty, and leaves it where only this user can read it.
//
// The file is made, empty, before the token is: a start that is killed in between leaves
// the wish for one behind, and not a token that nobody knows. An owner of the directory
// who has lost all tokens makes the file empty and starts again.
func (s *Server) keepFirstToken(ctx context.Context) error {
	path := filepath.Join(s.opt.Data, config.TokenFile)
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("first token: %w", err)
	}
	if wanted := err == nil && info.Size() == 0; !wanted && s.Fleet.Managed() {
		return nil
	}
	if err := writeToken(path, ""); err != nil {
		return fmt.Errorf("first token: %w", err)
	}
	if s.firstToken, err = s.Fleet.AdminToken(ctx); err != nil {
		return err
	}
	if err := writeToken(path, s.firstToken+"\n"); err != nil {
		return fmt.Errorf("first token: %w", err)
	}
	return nil
}

// writeToken puts a file that only this user can read in the place of the one that may be
// there: that may be another's, or be open for another to read. It returns when it is
// durable, the name included: a token whose file is lost is one that nobody knows.
func writeToken(path, text string) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a start that was killed
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteString(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
