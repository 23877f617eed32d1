package cli_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/fakeregistry"
)

// A password that is typed is not shown, and the terminal is as it was afterwards.
func TestPasswordIsNotShown(t *testing.T) {
	x := newTerminal(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", "")
	registry := fakeregistry.New(t, fakeregistry.Options{Basic: true, Username: "me", Password: "hidden word"})
	x.containr("login", registry.Host())
	x.expect("Username: ")
	x.types("me\n")
	x.expect("Password: ")
	x.isTaken()
	x.types("hidden word\n")
	shown := x.expect("Login Succeeded")
	x.ends(0)
	if strings.Contains(shown, "hidden") {
		t.Errorf("the terminal showed %q", shown)
	}
	if x.state() != x.before {
		t.Error("the terminal is not as it was")
	}
	if _, err := os.Stat(filepath.Join(home, ".docker/config.json")); err != nil {
		t.Error(err)
	}
}

// Who thinks better of it at the prompt has his terminal back.
func TestPasswordPromptCanBeInterrupted(t *testing.T) {
	x := newTerminal(t)
	t.Setenv("HOME", t.TempDir())
	registry := fakeregistry.New(t, fakeregistry.Options{Basic: true, Username: "me", Password: "secret"})
	x.containr("login", "--username", "me", registry.Host())
	x.expect("Password: ")
	x.isTaken()
	x.types("\x03")
	x.ends(130)
	if x.state() != x.before {
		t.Error("the terminal is not as it was: it shows nothing of what is typed")
	}
	if n := len(registry.Requests("/")); n > 0 {
		t.Errorf("the registry was asked %d times", n)
	}
}

// Who waits for a registry that says nothing is told what for, and can end it.
func TestSilentRegistryIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the kernel takes connections in, and nobody says anything on them
	x := newTerminal(t)
	host := l.Addr().String()
	x.containr("pull", "--plain-http", host+"/app:1")
	x.expect("waiting for the answer of " + host + " for 3 s, at most 60 s, attempt 1 of 6")
	x.types("\x03")
	x.ends(130)
}
