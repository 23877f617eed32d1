package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/fakeregistry"
)

// exampleTime bounds one block.
const exampleTime = time.Minute

// TestExamples does what the README and the book tell the reader to do.
func TestExamples(t *testing.T) {
	testkit.RequireRoot(t)
	bin, err := filepath.Abs(filepath.Join(root, "bin"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "containr")); err != nil {
		t.Skipf("needs bin/containr, which make builds: %v", err)
	}
	all := documents(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		found := examples(all[name])
		if len(found) == 0 || strings.HasPrefix(name, filepath.Join("docs", "cli")) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			testkit.Leftovers(t)
			p := newPlace(t, bin)
			t.Cleanup(func() {
				if err := p.awaitMonitor(); err != nil {
					t.Error(err)
				}
			})
			for _, e := range found {
				t.Run(fmt.Sprintf("line %d", e.line), func(t *testing.T) { p.try(t, e) })
			}
		})
	}
}

// awaitMonitor waits until the monitor of a page that had containers in the background has ended.
func (p place) awaitMonitor() error {
	ctx, cancel := context.WithTimeout(context.Background(), exampleTime)
	defer cancel()
	lock, err := durable.AcquireExisting(ctx, filepath.Join(p.dir, "run", "containr", "monitor.lock"), durable.Shared)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return lock.Release()
}

// place is where the blocks of one page are executed.
type place struct {
	host     *testkit.NetNS
	bin, dir string
	registry string // host and port: $REGISTRY of the blocks, an empty registry to begin with
}

func newPlace(t *testing.T, bin string) place {
	p := place{host: testkit.NewNetNS(t), bin: bin, dir: t.TempDir()}
	p.host.Do(func() { p.registry = fakeregistry.New(t, fakeregistry.Options{}).Host() })
	for _, d := range []string{"lib", "run", "work"} {
		if err := os.Mkdir(filepath.Join(p.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// prologue replaces the usual places of state by those of the page, in a mount namespace of the block's own.
const prologue = `mount --bind "$1/lib" /var/lib && mount --bind "$1/run" /run && cd "$1/work" && exec sh -eu -c "$2"`

func (p place) try(t *testing.T, e example) {
	for _, program := range e.needs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
	}
	out, err := testkit.Strace(t, func() ([]byte, error) {
		p.removeTraces(t) // of an attempt that strace has spoilt
		return p.execute(t, e)
	})
	if err != nil {
		t.Fatalf("%v\n%s\nprinted\n%s", err, e.text, out)
	}
	if !e.tells {
		return
	}
	if miss := mismatch(e.want, string(out)); miss != "" {
		t.Errorf("the page says something else than\n%s\nprinted, from this line on: %s\nprinted:\n%s", e.text, miss, out)
	}
}

// removeTraces removes what strace -o trace has written in the working directory of the page.
func (p place) removeTraces(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "work", "trace*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// execute runs a block once, and returns what it printed on both streams.
func (p place) execute(t *testing.T, e example) ([]byte, error) {
	ctx, cancel := context.WithTimeout(t.Context(), exampleTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", prologue, "sh", p.dir, e.text)
	cmd.Env = append(os.Environ(), "PATH="+p.bin+":"+os.Getenv("PATH"), "LC_ALL=C", "HOME=/root", "REGISTRY="+p.registry)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	var err error
	p.host.Do(func() { err = cmd.Run() })
	return out.Bytes(), err
}
