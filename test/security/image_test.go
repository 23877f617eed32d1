package security

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// What an image's configuration says can have any characters. A zero byte ends a string
// for the kernel, so that another program, variable or directory would be meant than was
// shown: such a configuration is refused, with nothing left. And a user or directory that
// is odd is that or an error, never root or the host's.
func TestOddImageConfigurationsAreRefused(t *testing.T) {
	begin(t)
	tree := testkit.Rootfs(t)
	root := filepath.Join(t.TempDir(), "state")
	e := engine.New(engine.Options{Root: root})
	probe := []string{"/probe"}
	for name, config := range map[string]v1.ImageConfig{
		"zero in a variable":     {Cmd: probe, Env: []string{"A=b\x00LD_PRELOAD=/x"}},
		"zero in an argument":    {Cmd: []string{"/probe", "a\x00b"}},
		"zero in the program":    {Cmd: []string{"/probe\x00.txt"}},
		"zero in the directory":  {Cmd: probe, WorkingDir: "/tmp\x00/x"},
		"zero in the user":       {Cmd: probe, User: "root\x00"},
		"user out of range":      {Cmd: probe, User: "4294967296"},
		"user -1":                {Cmd: probe, User: "-1"},
		"user that means -1":     {Cmd: probe, User: "4294967295"},
		"group out of range":     {Cmd: probe, User: "0:2147483648"},
		"user with a line end":   {Cmd: probe, User: "root\n"},
		"user of another user":   {Cmd: probe, User: "root:x:0"},
		"directory of procfs":    {Cmd: probe, WorkingDir: "/proc/self/fd/0"},
		"directory with fd":      {Cmd: probe, WorkingDir: "../../proc/self/fd/0/x"},
		"no program":             {Cmd: []string{""}},
		"signal":                 {Cmd: probe, StopSignal: "SIGKILL\n9"},
		"very long argument":     {Cmd: []string{"/probe", strings.Repeat("x", 1<<20)}},
		"very many arguments":    {Cmd: append([]string{"/probe"}, make([]string, 1<<20)...)},
		"very long environment":  {Cmd: probe, Env: []string{"A=" + strings.Repeat("x", 1<<20)}},
		"very long directory":    {Cmd: probe, WorkingDir: "/" + strings.Repeat("x/", 1<<16)},
		"very long search path":  {Cmd: []string{"nothing"}, Env: []string{"PATH=" + strings.Repeat("/x:", 1<<15)}},
		"very long program name": {Cmd: []string{strings.Repeat("x", 1<<16)}},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Leftovers(t)
			if _, err := e.Import(t.Context(), engine.ImportRequest{Path: tree, Name: "odd:1", Config: config}); err != nil {
				return // refused even earlier
			}
			in, err := os.Open(tree)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			exit, err := e.Run(t.Context(), engine.RunRequest{Config: container.Config{Image: "odd:1"}, Streams: engine.Streams{Stdio: [3]*os.File{in, nil, nil}}})
			if err == nil {
				t.Fatalf("it ran: %+v", exit)
			}
			if len(err.Error()) > 8<<10 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
	for _, dir := range []string{"containers", "names", "layers", "run/runtime"} {
		if entries, err := os.ReadDir(filepath.Join(root, dir)); err != nil && !os.IsNotExist(err) || len(entries) > 0 {
			t.Errorf("%s: %v, error %v", dir, entries, err)
		}
	}
	if info, err := os.Stat(root); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state root: mode %v, error %v", info.Mode(), err)
	}
}
