package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// CacheDir returns the directory for what tests build or fetch once: $XDG_CACHE_HOME/containr-test.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	dir := filepath.Join(base, "containr-test")
	return dir, os.MkdirAll(dir, 0o755)
}

// Build compiles the main package pkg of this module, statically, for linux on goarch, with flags of the go command
// such as -cover, and returns the path of the
// program. The program stays in the cache under a name of its own; when nothing changed the go command only looks
// (0.2 s). A lock keeps test processes that run at the same time from building the same file twice.
func Build(pkg, goarch string, flags ...string) (string, error) {
	return goBuild(pkg, goarch, append([]string{"build"}, flags...)...)
}

// BuildTest compiles the test binary of the package pkg of this module as Build does programs.
func BuildTest(pkg, goarch string, flags ...string) (string, error) {
	return goBuild(pkg, goarch, append([]string{"test", "-c"}, flags...)...)
}

// PackageDir returns the directory with the sources of the package pkg.
func PackageDir(pkg string) (string, error) {
	cmd := exec.Command("go", "list", "-f", "{{.Dir}}", pkg)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd, err)
	}
	return strings.TrimSpace(string(out)), nil
}

func goBuild(pkg, goarch string, command ...string) (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	if os.Getenv("GOCOVERDIR") != "" && command[0] == "build" && strings.Contains(pkg, "/cmd/containr") && !strings.HasSuffix(pkg, "-init") {
		// Coverage is measured: the programs that kernel tests start write theirs to that directory. containr-init
		// cannot, as it runs inside of the container.
		command = append(command, "-cover", "-coverpkg=github.com/containr/containr/...")
	}
	// The flags are part of the name: a binary with -cover or -race is another one.
	name := strings.NewReplacer("/", "-", " ", "", "=", "-", ",", "-").Replace(pkg + "." + strings.Join(command, ".") + "." + goarch)
	out := filepath.Join(dir, name)
	lock, err := Lock(out + ".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	cmd := exec.Command("go", append(command, "-trimpath", "-o", out, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch, "GOFLAGS=")
	var text []byte
	err = OutsideNetwork(func() (err error) { // it may fetch modules
		text, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, text)
	}
	if _, err := os.Stat(out); err != nil {
		return "", fmt.Errorf("%s: made no file: %w", cmd, err)
	}
	return out, nil
}

// Lock waits for the exclusive flock(2) of the file path, which it creates, and returns the file that holds it.
// Closing the file, or the end of the process, gives the lock back. Users may share a lock: reading the file suffices.
func Lock(path string) (*os.File, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// openLock opens the file if it is there. O_CREAT would not do: in a sticky directory such as /tmp the kernel refuses
// it for another user's file (fs.protected_regular, Linux 4.19). Who loses the race to create it finds it there.
func openLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if !os.IsNotExist(err) {
			return f, err
		}
		f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if !os.IsExist(err) {
			return f, err
		}
	}
}
