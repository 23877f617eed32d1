package security

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/procfs"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

// The init program is executed by all containers that want one, and the host has it
// too. A container that may mount makes what it sees of it writable; that is a copy of
// its own, and no name of the host's file.
func TestInitIsTheContainersOwn(t *testing.T) {
	begin(t)
	built, err := testkit.Build("github.com/containr/containr/cmd/containr-init", "")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "init-of-the-host")
	testkit.WriteFile(t, program, string(text), 0o755)
	state := t.TempDir()
	e := engine.New(engine.Options{Root: state, Init: program})
	r, err := runBy(t, e, container.Config{Init: true, Privileged: true}, attempts("remount-rw:/dev/containr-init", "write:/dev/containr-init")...)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Tries[0].OK {
		t.Errorf("%+v: this container may mount, so that the test says something", r.Tries)
	}
	m, ok := procfs.Mounts(r.Mounts).At("/dev/containr-init")
	if !ok || strings.HasSuffix(m.Root, "init-of-the-host") && !strings.Contains(m.Root, filepath.Base(filepath.Dir(state))) || !strings.Contains(m.Root, "/containers/") {
		t.Errorf("the init program is %s", m.Root)
	}
	var st unix.Stat_t
	if err := unix.Stat(program, &st); err != nil || st.Nlink != 1 {
		t.Errorf("%d names, error %v", st.Nlink, err)
	}
	if after, err := os.ReadFile(program); err != nil || string(after) != string(text) {
		t.Errorf("the host's program changed (error %v)", err)
	}
}
