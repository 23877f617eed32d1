// Package program lets tests run containr as people do, from its command line.
//
// # Theory of operation
//
// A test binary that begins with Main doubles as containr: Main puts a copy of the binary, under the name containr, in
// a directory in front of PATH, and a binary of that name is cmd/containr. So what a test runs is built from the same
// sources, with the same flags: it counts for coverage, and the race detector sees it. containr-init, which has to be
// static, is built apart and put beside it.
//
// The environment variable ROOT stands for --root, so that a test says once where everything is kept. And the default network is
// none: tests run beside each other in one network namespace. Who sets CONTAINR_RUN_NETWORK, be it to nothing, in a
// namespace of his own, has what users have.
package program

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/cli"
	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/testkit"
)

// RootVar names the environment variable with the state root.
const RootVar = "ROOT"

// NetworkVar names the variable of the configuration with the network of containers that name none.
const NetworkVar = "CONTAINR_RUN_NETWORK"

// Main runs the tests in a world of their own (see testkit.World), or containr. It does not return.
func Main(m *testing.M, options ...testkit.WorldOption) {
	if filepath.Base(os.Args[0]) != "containr" {
		testkit.World(options...)
	}
	testscript.Main(m, map[string]func(){"containr": containr})
}

// containr is cmd/containr, with --root for the directory that the environment names.
func containr() {
	args := os.Args[1:]
	if root := os.Getenv(RootVar); root != "" {
		args = append([]string{"--root", root}, args...)
	}
	if _, said := os.LookupEnv(NetworkVar); !said {
		os.Setenv(NetworkVar, "none") // it does not fail
	}
	p := cli.Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(p.Main(args))
}

// Require skips a test where containers cannot be run, and makes the programs reachable for every user.
func Require(t testing.TB) {
	t.Helper()
	testkit.RequireRoot(t)
	if _, err := baseimage.Archive(); err != nil {
		t.Skipf("skipped: %v", err)
	}
	path, err := exec.LookPath("containr")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Dir(path)
	for _, dir := range []string{bin, filepath.Dir(bin)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"containr-init", "containr-monitor", "containr-usernet"} {
		install(t, "github.com/containr/containr/cmd/"+name, filepath.Join(bin, name))
	}
}

// install builds a program that belongs beside containr, once.
func install(t testing.TB, pkg, path string) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	}
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

// monitorPatience is how long a monitor may need to end when there is nothing for it to do.
const monitorPatience = 30 * time.Second

// AwaitMonitor waits until the monitor and the resolver of a state root, if there are such, have ended: nothing is left for
// them to look after.
func AwaitMonitor(root string) error {
	return errors.Join(awaitProcess(root, "monitor"), awaitProcess(root, "resolver"))
}

// awaitProcess waits until a process lets go of its lock.
func awaitProcess(root, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), monitorPatience)
	defer cancel()
	lock, err := durable.AcquireExisting(ctx, filepath.Join(root, "run", name+".lock"), durable.Shared)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(root, "run", name+".log"))
		return fmt.Errorf("the %s does not end: %w\n%s", name, err, log)
	}
	return lock.Release()
}

// transient are the directories below a state root that are empty when no command runs and no container is kept.
var transient = []string{
	"containers", "layers", "logs", "run/logs", "names", "run/containers", "run/runtime", "run/resolver", "run/usernet", "content/ingest", "content/leases", "snapshots/staging",
}

// LeftIn lists what a state root should not hold any more: containers and their layers, what is half fetched, leases.
func LeftIn(root string) []string {
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
