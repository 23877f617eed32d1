package systemd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containr/containr/internal/dbus"
	"github.com/containr/containr/internal/testkit/fakesystemd"
)

// sleeper starts a process that waits.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestSleeper$")
	cmd.Env = append(os.Environ(), "CONTAINR_TEST_SLEEPER=1")
	if _, err := cmd.StdinPipe(); err != nil { // it ends when we do
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

func TestSleeper(t *testing.T) {
	if os.Getenv("CONTAINR_TEST_SLEEPER") == "" {
		t.Skip("is a part of other tests")
	}
	_, _ = os.Stdin.Read(make([]byte, 1)) // until it is closed
}

// TestScope makes a scope, changes it and ends it, over every way to a real systemd, or
// with a fake one.
func TestScope(t *testing.T) {
	ways := map[string][]socket{}
	if comm, err := os.ReadFile("/proc/1/comm"); err == nil && string(comm) == "systemd\n" && os.Geteuid() == 0 {
		for _, s := range sockets(false) {
			ways[filepath.Base(s.path)] = []socket{s}
		}
	} else {
		fakesystemd.Start(t, t.TempDir())
		ways["fake"] = sockets(false)
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			m, err := dial(way)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			const unit = "containr-test-way.scope"
			for _, kill := range []bool{false, true} {
				process := sleeper(t)
				properties := [][]string{{"PIDs", "au", "1", strconv.Itoa(process.Process.Pid)}, {"Slice", "s", "system.slice"}, {"Delegate", "b", "true"}}
				if err := m.StartTransient(unit, properties); err != nil {
					t.Fatal(err)
				}
				if err := m.StartTransient(unit, properties); !dbus.IsError(err, "org.freedesktop.systemd1.UnitExists") {
					t.Errorf("a second one: %v", err)
				}
				if err := m.SetProperties(unit, [][]string{{"TasksMax", "t", "7"}}); err != nil {
					t.Error(err)
				}
				if kill {
					process.Process.Kill()
					process.Wait()
				}
				for range 2 {
					if err := m.Stop(unit); err != nil {
						t.Error(err)
					}
				}
			}
			if path, err := m.ControlGroup(); err != nil || path != "/" {
				t.Errorf("the manager is in %q, error %v", path, err)
			}
		})
	}
}

func TestNobodyIsThere(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/bus,guid=1")
	if _, err := Dial(false); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "/bus: no such file") {
		t.Errorf("error %v", err)
	}
}
