package ocicli

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/guest"
)

// usable says why criu cannot be used here, once.
var usable = sync.OnceValue(func() error {
	if os.Getenv(guest.Var) != "" {
		// Packages of a guest are only unpacked.
		for _, name := range []string{"iptables", "iptables-restore", "iptables-save", "ip6tables", "ip6tables-restore", "ip6tables-save"} {
			if err := os.Symlink("xtables-nft-multi", "/usr/sbin/"+name); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	out, err := exec.Command("criu", "check").CombinedOutput()
	if err != nil {
		return errors.New("criu check: " + err.Error() + ": " + strings.TrimSpace(string(out)))
	}
	return nil
})

func requireCRIU(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
	switch err := usable(); {
	case err == nil:
	case os.Getenv(guest.Var) != "":
		t.Fatal(err)
	default:
		t.Skipf("no CRIU that works here: %v", err)
	}
}

// requireMemoryTracking skips on a host whose kernel does not tell which memory has changed.
func requireMemoryTracking(t *testing.T) {
	t.Helper()
	requireCRIU(t)
	if out, err := exec.Command("criu", "check", "--feature", "mem_dirty_track").CombinedOutput(); err != nil {
		if os.Getenv(guest.Var) != "" {
			t.Fatalf("%v: %s", err, out)
		}
		t.Skipf("no kernel that tracks memory (CONFIG_MEM_SOFT_DIRTY): %s", out)
	}
}

// cgroupV2 reports whether the machine's control groups are version 2.
func cgroupV2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// groupDir is the directory of a control group: on version 1 that of the controller.
func groupDir(controller, group string) string {
	if cgroupV2() {
		controller = ""
	}
	return filepath.Join("/sys/fs/cgroup", controller, group)
}

func limitFile() string {
	if cgroupV2() {
		return "/memory.max"
	}
	return "/memory.limit_in_bytes"
}
