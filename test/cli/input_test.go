package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
)

// A command that waits for its standard input to end is ended by a signal, and has made nothing.
func TestInputThatStaysOpenIsLeft(t *testing.T) {
	program.Require(t)
	testkit.Leftovers(t)
	for _, line := range []string{
		"secret create kept -",
		"volume import kept",
		"import - kept",
		"load",
		"login --username me --password-stdin registry.example",
	} {
		t.Run(line, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			in, person, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer person.Close()
			cmd := exec.Command("containr", strings.Fields(line)...)
			cmd.Env, cmd.Stdin = append(os.Environ(), program.RootVar+"="+root, "HOME="+root), in
			err = cmd.Start()
			in.Close()
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			if _, err := person.WriteString("x"); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "what is written is read", func() bool {
				n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCINQ)
				return err == nil && n == 0
			})
			if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "it ends", func() bool { return len(ended) > 0 })
			if got := cmd.ProcessState.ExitCode(); got != 128+int(unix.SIGTERM) {
				t.Errorf("exit status %d", got)
			}
			if err := program.AwaitMonitor(root); err != nil {
				t.Error(err)
			}
			for _, path := range program.LeftIn(root) {
				t.Errorf("left in the state root: %s", path)
			}
			for _, pattern := range []string{"volumes/*", "volumes/.new-*", "secrets/kept*", "names/*"} {
				if left, err := filepath.Glob(filepath.Join(root, pattern)); err != nil || len(left) > 0 {
					t.Errorf("left in the state root: %v, %v", left, err)
				}
			}
		})
	}
}

// At a terminal a secret is asked for and not shown, and no archive is awaited.
func TestInputAtATerminal(t *testing.T) {
	x := newTerminal(t)
	x.containr("secret", "create", "asked", "-")
	x.expect("Secret: ")
	x.isTaken()
	x.types("swordfish\r")
	x.ends(0)
	if strings.Contains(string(x.seen), "swordfish") {
		t.Errorf("it is shown: %s", x.seen)
	}
	x.containr("secret", "create", "interrupted", "-")
	x.expect("Secret: ")
	x.isTaken()
	x.types("\x03")
	x.ends(128 + int(unix.SIGINT))
	x.containr("secret", "ls", "--format", "<{{.Name}}>")
	x.expect("<asked>")
	x.ends(0)
	for _, line := range []string{"volume import kept", "import -", "load"} {
		x.containr(strings.Fields(line)...)
		x.expect("standard input is a terminal, not an archive")
		x.ends(125)
	}
	x.containr("secret", "rm", "asked")
	x.ends(0)
}
