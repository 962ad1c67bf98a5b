package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/wilco-iot/wilco/internal/fault"
)

// newPassword asks for a password that does not exist yet: twice on a terminal,
// where nobody sees what is typed.
func (a *app) newPassword(what string) (string, error) {
	first, err := a.password(what)
	if err != nil || !a.typed() {
		return first, err
	}
	second, err := a.password(what + ", again")
	if err == nil && first != second {
		err = fault.Field("password", "the two are not the same; try again")
	}
	return first, err
}

// typed says whether standard input is a terminal.
func (a *app) typed() bool {
	f, ok := a.In.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// password asks for a password on the terminal, or reads one line of standard input.
func (a *app) password(what string) (string, error) {
	if !a.typed() {
		return a.line()
	}
	fmt.Fprintf(a.Err, "%s: ", what)
	b, err := term.ReadPassword(int(a.In.(*os.File).Fd()))
	fmt.Fprintln(a.Err)
	if err != nil {
		return "", fault.Field("password", "cannot be read: %v", err)
	}
	return string(b), nil
}

// line reads one line byte by byte, so that the next one is still there.
func (a *app) line() (string, error) {
	var text strings.Builder
	for b := make([]byte, 1); text.Len() < 4096; {
		n, err := a.In.Read(b)
		if n > 0 && b[0] == '\n' {
			break
		}
		text.Write(b[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fault.Field("password", "cannot be read: %v", err)
		}
	}
	if text.Len() == 0 {
		return "", fault.Field("password", "missing; write it to standard input, or run this on a terminal")
	}
	return strings.TrimSuffix(text.String(), "\r"), nil
}
