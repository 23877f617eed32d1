package guest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/guest/wire"
)

// baseFiles make programs and libraries find what they look for.
var baseFiles = map[string]string{
	"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
	"/etc/group":  "root:x:0:\nnogroup:x:65534:\n",
	"/etc/hosts":  "127.0.0.1 localhost\n::1 localhost\n",
	"/etc/subuid": "root:100000:65536\n",
	"/etc/subgid": "root:100000:65536\n",
}

// policy is the source of the SELinux policy.
//
//go:embed policy.cil
var policy string

// writeInitrd makes the root file system that the guest starts with, the same for every job, in a memfd, which nobody
// has to remove.
func writeInitrd(k Kernel, f files, u Userland) (*os.File, error) {
	init, err := testkit.Build("github.com/containr/containr/internal/testkit/guest/cmd/guestinit", k.Arch)
	if err != nil {
		return nil, err
	}
	names := []string{"busybox-static"}
	if u == SELinux {
		names = append(names, "secilc")
	}
	packages, err := packageTrees(names, k.Arch)
	if err != nil {
		return nil, err
	}
	load := bootModules
	if u.disk() {
		load = slices.Concat(diskModules, bootModules)
	}
	boot, err := json.Marshal(wire.Boot{Load: load, Modules: f.modules, Disk: u.disk()})
	if err != nil {
		return nil, err
	}
	file, err := memfd("initrd")
	if err != nil {
		return nil, err
	}
	c := newCpio(file)
	c.tree("/init", init)
	c.tree(wire.ModuleDir, filepath.Join(f.dir, "modules"))
	c.file(wire.BootPath, 0o600, string(boot))
	c.entry("/dev/console", unix.S_IFCHR|0o600, 0, 0, unix.Mkdev(5, 1), "")
	if !u.disk() {
		memoryRoot(c, packages)
	}
	if u == SELinux {
		c.file(wire.PolicyPath, 0o644, policy)
	}
	if err := c.close(); err != nil {
		file.Close()
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	return file, nil
}

// memoryRoot adds what the initramfs needs to be all of the guest's root.
func memoryRoot(c *cpioWriter, packages []string) {
	for _, p := range packages {
		c.tree("/", p)
	}
	c.dir("/tmp", 0o1777)
	for _, name := range slices.Sorted(maps.Keys(baseFiles)) {
		c.file(name, 0o644, baseFiles[name])
	}
	c.symlink("/sbin/modprobe", "/init")
	c.symlink("/bin/sh", "busybox")
	for _, d := range []string{"/dev", "/proc", "/sys", "/run", "/var/lib", "/var/tmp", "/mnt", "/usr/lib/busybox", "/root"} {
		c.dir(d, 0o755)
	}
}

func memfd(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
