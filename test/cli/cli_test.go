// Package cli_test uses containr as people do: it types commands, and looks at what comes out.
//
// # Theory of operation
//
// Each file in testdata is a script in the language of testscript
// (https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript): lines to type, what they must print, and files to
// begin with. Every script can be read as a page of the manual for one topic.
//
// In a script, containr is this test binary (package program). It keeps everything below $ROOT, a directory of the
// script's own. Besides the commands of testscript there are those of commands_test.go.
//
// Scripts run one after the other, as root. After each, nothing may be left: no mount, process, cgroup or link on the
// machine, and below $ROOT no container, no layer of one, nothing half fetched, no lease.
//
// What needs a terminal is in terminal_test.go, where a pty takes the part of the person.
package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
	"github.com/containr/containr/pkg/host"
)

func TestMain(m *testing.M) { program.Main(m) }

func TestScripts(t *testing.T) {
	program.Require(t)
	testscript.RunT(serial{t}, testscript.Params{
		Dir:                 "testdata",
		Setup:               setUp,
		Cmds:                commands,
		Condition:           condition,
		RequireUniqueNames:  true,
		RequireExplicitExec: false,
	})
}

// condition knows those that testscript does not: [btrfs] holds where one can be made and mounted,
// [erofs] where images of that kind can be used in the directory of tests, [unified] where control groups are of version 2 alone.
func condition(name string) (bool, error) {
	if name == "unified" {
		_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
		return err == nil, nil
	}
	if name == "erofs" {
		on, err := host.ProbeStorage(os.TempDir())
		if err != nil {
			return false, err
		}
		facts, err := host.Probe()
		if err != nil {
			return false, err
		}
		_, _, err = host.ChooseSnapshotter(facts.Snapshotters(on, false), host.ErofsSnapshotter)
		return err == nil, nil
	}
	if name != "btrfs" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	known, err := os.ReadFile("/proc/filesystems")
	_, missing := exec.LookPath("mkfs.btrfs")
	return missing == nil && strings.Contains(string(known), "\tbtrfs\n"), err
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
	env.Setenv(program.RootVar, root)
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
		if err := program.AwaitMonitor(root); err != nil {
			t.Error(err)
		}
		for _, path := range program.LeftIn(root) {
			t.Errorf("left in the state root: %s", path)
		}
	})
	return nil
}
