// Package cli_test uses containr as people do: it types commands, and looks at what comes out.
//
// # Theory of operation
//
// Each file in testdata is a script in the language of testscript
// (https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript): lines to type, what they must print, and files to
// begin with. Every script can be read as a page of the manual for one topic.
//
// In a script, containr is this test binary, which then behaves as cmd/containr does; so what it does counts for
// coverage, and the race detector sees it. It keeps everything below $ROOT, a directory of the script's own. Besides
// the commands of testscript there are those of commands_test.go.
//
// Scripts run one after the other, as root. After each, nothing may be left: no mount, process, cgroup or link on the
// machine, and below $ROOT no container, no layer of one, nothing half fetched, no lease.
//
// What needs a terminal is in terminal_test.go, where a pty takes the part of the person.
package cli_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/cli"
	"github.com/containr/containr/internal/testkit"
)

// rootVar names the environment variable with the state root of the containr in scripts.
const rootVar = "ROOT"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"containr": containr})
}

// containr is cmd/containr, with --root for the directory that the environment names.
func containr() {
	args := os.Args[1:]
	if root := os.Getenv(rootVar); root != "" {
		args = append([]string{"--root", root}, args...)
	}
	p := cli.Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(p.Main(args))
}

func TestScripts(t *testing.T) {
	requireMachine(t)
	testscript.RunT(serial{t}, testscript.Params{
		Dir:                 "testdata",
		Setup:               setUp,
		Cmds:                commands,
		RequireUniqueNames:  true,
		RequireExplicitExec: false,
	})
}

// requireMachine skips a test where containers cannot be run, and lets every user reach the program.
func requireMachine(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
	if _, err := baseimage.Archive(); err != nil {
		t.Skipf("skipped: %v", err)
	}
	program, err := exec.LookPath("containr")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Dir(program)
	install(t, "github.com/containr/containr/cmd/containr-init", filepath.Join(bin, "containr-init"))
	for _, dir := range []string{bin, filepath.Dir(bin)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// install builds a program that belongs beside containr.
func install(t *testing.T, pkg, path string) {
	t.Helper()
	built, err := testkit.Build(pkg, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(built)
	if err == nil {
		err = os.WriteFile(path, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// serial runs the scripts one after the other, each with a watch over what it leaves behind.
type serial struct{ *testing.T }

func (s serial) Parallel() {}

func (s serial) Verbose() bool { return testing.Verbose() }

func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) {
		testkit.Leftovers(t)
		f(serial{t})
	})
}

// testKey is the key of a script's *testing.T among its values.
type testKey struct{}

// setUp prepares the environment of a script.
func setUp(env *testscript.Env) error {
	t := env.T().(serial)
	root := filepath.Join(env.WorkDir, "root")
	env.Setenv(rootVar, root)
	env.Setenv("PROBE", testkit.Probe(t.T))
	env.Values[testKey{}] = t.T
	for _, pair := range os.Environ() {
		if strings.HasPrefix(pair, "CONTAINR_TEST_") {
			env.Vars = append(env.Vars, pair)
		}
	}
	// Every user, and the users of containers with a user namespace, may look in.
	for _, dir := range []string{filepath.Dir(env.WorkDir), env.WorkDir} {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	env.Defer(func() {
		for _, path := range leftIn(root) {
			t.Errorf("left in the state root: %s", path)
		}
	})
	return nil
}

// transient are the directories below a state root that are empty when no command runs and no container is kept.
var transient = []string{
	"containers", "layers", "names", "run/containers", "run/runtime", "content/ingest", "content/leases", "snapshots/staging",
}

// leftIn lists what a state root should not hold any more.
func leftIn(root string) []string {
	var left []string
	for _, dir := range transient {
		filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && path != filepath.Join(root, dir) {
				left = append(left, fmt.Sprintf("%s (%s)", path, d.Type()))
			}
			return nil
		})
	}
	return left
}
