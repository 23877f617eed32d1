package ocicli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// asRuntime makes the test binary the program containr-runtime.
const asRuntime = "CONTAINR_TEST_AS_RUNTIME"

// asReaper makes the test binary a program that runs the one in its arguments and adopts
// and reaps whatever that leaves behind, until nobody is left.
const asReaper = "CONTAINR_TEST_AS_REAPER"

func reaper(args []string) int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 125
	}
	if _, err := os.StartProcess(args[0], args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}}); err != nil {
		return 126
	}
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); errors.Is(err, unix.ECHILD) {
			return 0
		}
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(asReaper) != "" {
		os.Unsetenv(asReaper)
		os.Exit(reaper(os.Args))
	}
	if os.Getenv(asRuntime) != "" {
		os.Unsetenv(asRuntime)
		os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	testkit.Main(m)
}

// site is a bundle and a state root.
type site struct {
	t            *testing.T
	bundle, root string
	env          []string
	// others are processes of containers that were there before.
	others map[int]string
	// flags are the global ones of every call.
	flags []string
}

// newSite makes a bundle whose program waits for a signal.
func newSite(t *testing.T, change func(*specs.Spec)) *site {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	root := testkit.Rootfs(t)
	s := &site{t: t, bundle: filepath.Dir(root), root: filepath.Join(t.TempDir(), "state"), others: containerProcesses()}
	spec := exampleSpec()
	spec.Root = &specs.Root{Path: root}
	spec.Process.Terminal = false
	spec.Process.Args = []string{"/probe", "-wait-signal", "USR1"}
	spec.Mounts = spec.Mounts[:6] // the fixture is not read-only and has no place for control groups
	if change != nil {
		change(spec)
	}
	s.write(spec)
	return s
}

func (s *site) write(spec *specs.Spec) {
	s.t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		s.t.Fatal(err)
	}
	testkit.WriteFile(s.t, filepath.Join(s.bundle, "config.json"), string(text), 0o644)
}

// command is a call of the runtime that has not begun.
func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], slices.Concat([]string{"--root", s.root}, s.flags, args)...)
	cmd.Env = append(append(os.Environ(), asRuntime+"=1"), s.env...)
	cmd.Dir = s.bundle
	return cmd
}

// run calls the runtime and returns what it printed and its exit code. Its output goes
// to files, since the container inherits it and would keep a pipe open.
func (s *site) run(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.CreateTemp(s.t.TempDir(), "out")
		if err != nil {
			s.t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	cmd := s.command(args...)
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	_ = cmd.Run() // the exit code says it
	var out [2][]byte
	for i, f := range files {
		out[i], _ = os.ReadFile(f.Name())
	}
	return string(out[0]), string(out[1]), cmd.ProcessState.ExitCode()
}

// must is run for a call that has to succeed.
func (s *site) must(args ...string) string {
	s.t.Helper()
	out, err, code := s.run(args...)
	if code != 0 {
		s.t.Fatalf("%s: exit code %d: %s", strings.Join(args, " "), code, err)
	}
	return out
}

// refused is run for a call that has to fail with these words.
func (s *site) refused(words string, args ...string) {
	s.t.Helper()
	if _, err, code := s.run(args...); code == 0 || !strings.Contains(err, words) {
		s.t.Errorf("%s: exit code %d, %q; want a refusal with %q", strings.Join(args, " "), code, err, words)
	}
}

// status is a container's, as state prints it.
func (s *site) status(id string) string {
	s.t.Helper()
	var state struct{ Status string }
	if err := json.NewDecoder(bytes.NewBufferString(s.must("state", id))).Decode(&state); err != nil {
		s.t.Fatal(err)
	}
	return state.Status
}
