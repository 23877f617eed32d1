package conformance

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit"
)

const suiteModule = "github.com/opencontainers/runtime-tools"

// suite is a directory with the programs of the suite and with what they expect to find in their working directory:
// runtimetest, and a root file system in a tar file.
type suite struct {
	dir      string
	programs []string
}

// buildSuite builds the suite in the test cache, where it stays. The test is skipped where the suite cannot be had.
func buildSuite(t *testing.T) suite {
	t.Helper()
	cache, err := testkit.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	s := suite{dir: filepath.Join(cache, "runtime-tools")}
	lock, err := testkit.Lock(s.dir + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := goCommand("mod", "download"); err != nil {
		t.Skipf("the suite cannot be fetched: %v\n%s", err, out)
	}
	if out, err := goCommand("build", "-trimpath", "-ldflags=-s -w", "-o", s.dir+"/", "tool"); err != nil {
		t.Fatalf("build the suite: %v\n%s", err, out)
	}
	s.copyRootfs(t)
	s.list(t)
	return s
}

// copyRootfs brings the suite's root file system beside its programs.
func (s *suite) copyRootfs(t *testing.T) {
	t.Helper()
	dir, err := goCommand("list", "-m", "-f", "{{.Dir}}", suiteModule)
	if err != nil {
		t.Fatal(err)
	}
	name := "rootfs-" + runtime.GOARCH + ".tar.gz"
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(dir), name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("the suite has no root file system for %s", runtime.GOARCH)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, name), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// list asks for the names of the programs.
func (s *suite) list(t *testing.T) {
	t.Helper()
	out, err := goCommand("list", "tool")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(out) {
		if strings.HasPrefix(path, suiteModule+"/validation/") {
			s.programs = append(s.programs, filepath.Base(path))
		}
	}
	slices.Sort(s.programs)
	if len(s.programs) < 50 {
		t.Fatalf("the suite has %d programs only: %v", len(s.programs), s.programs)
	}
}

// goCommand runs the go command in the module of the suite.
func goCommand(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = "suite"
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	return string(out) + stderr.String(), err
}
