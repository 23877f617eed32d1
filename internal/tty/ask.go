package tty

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// maxLine bounds what is typed in a line, in bytes.
const maxLine = 64 << 10

// Ask prints a prompt to out and reads a line from a terminal. If it is a secret, what is
// typed is not shown. However it ends, the terminal is as it was before; when ctx ends
// first, the line is not waited for.
func Ask(ctx context.Context, in *os.File, out io.Writer, prompt string, secret bool) (string, error) {
	if _, err := io.WriteString(out, prompt); err != nil {
		return "", err
	}
	fd := int(in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("terminal %s: %w", in.Name(), err)
	}
	type answer struct {
		line []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		if secret {
			a.line, a.err = term.ReadPassword(fd)
		} else {
			a.line, a.err = bufio.NewReader(io.LimitReader(in, maxLine)).ReadBytes('\n')
		}
		answered <- a
	}()
	select {
	case a := <-answered:
		if secret {
			fmt.Fprintln(out) // the line feed that was typed was not shown either
		}
		if a.err != nil {
			return "", fmt.Errorf("read from the terminal: %w", a.err)
		}
		return string(bytes.TrimRight(a.line, "\r\n")), nil
	case <-ctx.Done():
		fmt.Fprintln(out)
		if err := term.Restore(fd, before); err != nil {
			return "", err
		}
		return "", context.Cause(ctx)
	}
}

// ReadSecret reads all of in, which is no terminal, as a secret: without the line feed at
// its end that echo and editors leave.
func ReadSecret(in io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxLine+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxLine {
		return "", fmt.Errorf("it is longer than %d bytes", maxLine)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), nil
}
