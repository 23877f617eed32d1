package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"unicode"

	"github.com/containr/containr/internal/timerslack"
)

// tokenUser is the user name by which helpers mark an identity token.
const tokenUser = "<token>"

// notFound is what a helper prints if it has no credential. It is a part of the protocol.
const notFound = "credentials not found in native keychain"

// maxAnswer bounds what a helper may print, in bytes.
const maxAnswer = 1 << 20

// kept is a credential in the form of the helpers.
type kept struct {
	ServerURL, Username, Secret string
}

// helperGet asks a helper; the zero value if it has none.
func helperGet(ctx context.Context, name, server string) (Credential, error) {
	out, err := runHelper(ctx, name, "get", []byte(server))
	if err != nil {
		if strings.Contains(string(out), notFound) {
			return Credential{}, nil
		}
		return Credential{}, helperError(name, "get", out, err)
	}
	var k kept
	if json.Unmarshal(out, &k) != nil {
		return Credential{}, fmt.Errorf("docker-credential-%s get: the answer is not JSON", name)
	}
	if k.Username == tokenUser {
		return Credential{IdentityToken: k.Secret}, nil
	}
	return Credential{Username: k.Username, Password: k.Secret}, nil
}

// helperStore hands a credential to a helper.
func helperStore(ctx context.Context, name, server string, c Credential) error {
	k := kept{ServerURL: server, Username: c.Username, Secret: c.Password}
	if c.IdentityToken != "" {
		k.Username, k.Secret = tokenUser, c.IdentityToken
	}
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if _, err := runHelper(ctx, name, "store", data); err != nil {
		return helperError(name, "store", nil, err) // it may print what it was given
	}
	return nil
}

// helperErase has a helper forget a credential.
func helperErase(ctx context.Context, name, server string) error {
	if out, err := runHelper(ctx, name, "erase", []byte(server)); err != nil {
		return helperError(name, "erase", out, err)
	}
	return nil
}

// runHelper starts a helper and returns what it printed. Its errors do not reach ours.
func runHelper(ctx context.Context, name, verb string, input []byte) ([]byte, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return nil, errors.New("that is no name of a program")
	}
	cmd := exec.CommandContext(ctx, "docker-credential-"+name, verb)
	cmd.Stdin = bytes.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout = &limited{Writer: &out, left: maxAnswer}
	err := timerslack.Do(cmd.Run)
	return out.Bytes(), err
}

// limited refuses what is too much.
type limited struct {
	io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("it prints without end")
	}
	return l.Writer.Write(p)
}

// helperError is the failure of a helper, with the first line of what it printed.
func helperError(name, verb string, out []byte, err error) error {
	text, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "..."
	}
	if text == "" {
		return fmt.Errorf("docker-credential-%s %s: %w", name, verb, err)
	}
	return fmt.Errorf("docker-credential-%s %s: %s: %w", name, verb, text, err)
}
