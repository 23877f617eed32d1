package cli_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
)

// listening matches what `registry serve` prints when it answers.
var listening = regexp.MustCompile(`^listening at https?://(127\.0\.0\.1:([0-9]+)); image NAME is ([^ ]+)/NAME in the store\n$`)

// served is a registry of containr itself.
type served struct {
	cmd          *exec.Cmd
	host, domain string // to push to, and what it is in the store
}

// startServing starts `containr registry serve` with an environment, and waits until it answers.
func startServing(env []string, dir string, flags ...string) (*served, error) {
	cmd := exec.Command("containr", append([]string{"registry", "serve", "--listen", "127.0.0.1:0"}, flags...)...)
	cmd.Env, cmd.Dir, cmd.Stderr = env, dir, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	found := listening.FindStringSubmatch(line)
	if err != nil || found == nil {
		cmd.Process.Kill()
		return nil, errors.Join(fmt.Errorf("the registry says %q", line), err, cmd.Wait())
	}
	return &served{cmd, found[1], found[3]}, nil
}

// stop interrupts the registry, which must end well.
func (s *served) stop() error {
	return errors.Join(s.cmd.Process.Signal(unix.SIGINT), s.cmd.Wait())
}

// serve [FLAG...] serves the store of the script as a registry until its end, and sets $SERVED to its host and port,
// $DOMAIN to what it is called in the store. The state root is $SERVEROOT, if it is set.
func serveStore(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: serve [FLAG...]")
	}
	env := append(os.Environ(), program.RootVar+"="+ts.Getenv(program.RootVar), "HOME="+ts.Getenv("HOME"))
	if root := ts.Getenv("SERVEROOT"); root != "" {
		env = append(env, program.RootVar+"="+ts.MkAbs(root))
	}
	s, err := startServing(env, ts.MkAbs("."), args...)
	ts.Check(err)
	ts.Defer(func() {
		if err := s.stop(); err != nil {
			ts.Logf("the registry ended: %v", err)
		}
	})
	ts.Setenv("SERVED", s.host)
	ts.Setenv("DOMAIN", s.domain)
}

// A registry is killed at any moment while others push to it. What it confirmed is there afterwards, and a check of its
// store finds nothing but leftovers, which the next registry takes away.
func TestKilledRegistryKeepsWhatItConfirmed(t *testing.T) {
	program.Require(t)
	testkit.Leftovers(t)
	dir := t.TempDir()
	there, here := filepath.Join(dir, "there"), filepath.Join(dir, "here")
	env := func(root string) []string { return append(os.Environ(), program.RootVar+"="+root) }
	run := func(root string, args ...string) (string, error) {
		cmd := exec.Command("containr", args...)
		cmd.Env = env(root)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(root string, args ...string) string {
		t.Helper()
		out, err := run(root, args...)
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return out
	}
	const seed, rounds = 20261129, 5
	random := rand.New(rand.NewPCG(seed, seed))
	confirmed := map[string]bool{}
	var mu sync.Mutex
	for round := range rounds {
		s, err := startServing(env(there), dir, "--name", "registry.test")
		if err != nil {
			t.Fatal(err)
		}
		var pushers sync.WaitGroup
		for n := range 2 {
			name := fmt.Sprintf("app%d:%d", n, round)
			file := filepath.Join(dir, fmt.Sprintf("tree%d", n))
			if err := os.MkdirAll(file, 0o755); err != nil {
				t.Fatal(err)
			}
			noise := make([]byte, 1<<20)
			for i := range noise {
				noise[i] = byte(random.Uint32())
			}
			if err := os.WriteFile(filepath.Join(file, "noise"), noise, 0o600); err != nil {
				t.Fatal(err)
			}
			must(here, "import", file, name)
			pushers.Go(func() {
				if _, err := run(here, "push", "-q", "--chunk-size", "256k", name, s.host+"/"+name); err == nil {
					mu.Lock()
					defer mu.Unlock()
					confirmed[name] = true
				}
			})
		}
		time.Sleep(time.Duration(random.Int64N(int64(150 * time.Millisecond)))) // when it is killed, not what is waited for
		s.cmd.Process.Kill()
		s.cmd.Wait()
		pushers.Wait()
	}
	s, err := startServing(env(there), dir, "--name", "registry.test")
	if err != nil {
		t.Fatal(err)
	}
	for name := range confirmed {
		must(here, "pull", "-q", s.host+"/"+name)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	t.Logf("%d of %d pushes were confirmed", len(confirmed), 2*rounds)
	if out := must(there, "system", "check"); out != "" {
		t.Errorf("check: %s", out)
	}
	if left, err := filepath.Glob(filepath.Join(there, "content", "ingest", "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %s", strings.Join(left, " "))
	}
}
