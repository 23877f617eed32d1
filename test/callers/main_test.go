package callers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/guest"
)

// insideVar is set in the environment of the test binary that runs in namespaces of its own.
const insideVar = "CONTAINR_TEST_CALLERS_INSIDE"

// script is process 1 there: a shell, since it reaps the orphans of daemons while it waits for the tests.
const script = `mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs -o mode=755 tmpfs /run || exit 125
"$@"
exit $?`

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(insideVar) != "" {
		os.Exit(m.Run())
	}
	if os.Getenv(guest.Var) != "" {
		configurePackages()
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lock, err := testkit.LockMachine()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// Callers refuse to work beside a cgroup hierarchy that they cannot find.
	if err := testkit.ReleaseHierarchies(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cmd := exec.Command("sh", append([]string{"-c", script, "sh", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), insideVar+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
	}
	err = cmd.Run()
	lock.Close()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// configurePackages does what the packages of a guest, which are only unpacked, still need.
func configurePackages() {
	for _, name := range []string{"iptables", "ip6tables", "iptables-restore", "ip6tables-restore", "iptables-save", "ip6tables-save"} {
		if err := os.Symlink("xtables-nft-multi", "/usr/sbin/"+name); err != nil && !errors.Is(err, os.ErrExist) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// require skips a test that needs root, or programs that are not there.
func require(t *testing.T, programs ...string) {
	t.Helper()
	testkit.RequireRoot(t)
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed: %v", p, err)
		}
	}
}

// up brings a link up.
func up(t *testing.T, name string) {
	t.Helper()
	if out, err := exec.Command("ip", "link", "set", name, "up").CombinedOutput(); err != nil {
		t.Fatalf("ip link set %s up: %v\n%s", name, err, out)
	}
}
