package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containr/containr/internal/testkit"
)

// A Userland is what a guest has besides its kernel.
type Userland string

const (
	// Memory is a root file system in memory with busybox, and the program as the only service. It is the default.
	Memory Userland = ""
	// Systemd is Debian with systemd as process 1, D-Bus, udev, AppArmor and its parser, nftables, iptables and
	// iproute2; the program runs as a part of a service, as root. Options.Packages are installed.
	Systemd Userland = "systemd"
	// SELinux is Memory with SELinux in the place of AppArmor: the policy policy.cil is loaded and enforced.
	SELinux Userland = "selinux"
)

// check refuses a name that is none.
func (u Userland) check() error {
	if !slices.Contains([]Userland{Memory, Systemd, SELinux}, u) {
		return fmt.Errorf("no userland %q: the userlands are %s, %s, and the empty name", u, Systemd, SELinux)
	}
	return nil
}

// disk tells whether the userland is on a disk.
func (u Userland) disk() bool { return u == Systemd }

// systemdPackages are installed in the userland Systemd. criu is among them for one test: an image and a saved machine of
// its own would take a minute.
var systemdPackages = []string{"systemd", "systemd-sysv", "dbus", "udev", "libpam-systemd", "kmod", "procps", "iproute2",
	"nftables", "iptables", "uidmap", "ca-certificates", "strace", "apparmor", "apparmor-utils", "criu"}

// packages returns what is installed, in order.
func (u Userland) packages(more []string) []string {
	list := slices.Concat(systemdPackages, more)
	slices.Sort(list)
	return slices.Compact(list)
}

// kernelArgs are added to the kernel's command line.
func (u Userland) kernelArgs() string {
	switch u {
	case Systemd:
		return " security=apparmor apparmor=1"
	case SELinux:
		return " security=selinux selinux=1 enforcing=0" // until there is a policy
	}
	return ""
}

// image returns the path of the userland's disk image with these packages besides its own, building it first if need
// be, which takes about a minute. The error is an ErrUnavailable when it cannot be built.
func (u Userland) image(arch string, more []string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	packages := u.packages(more)
	sum := sha256.Sum256([]byte(fmt.Sprintln(rootFormat, u, packages)))
	path := filepath.Join(cache, "roots", fmt.Sprintf("%s-%s-%s.squashfs", u, arch, hex.EncodeToString(sum[:6])))
	lock, err := testkit.Lock(filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := buildRoot(cache, arch, packages, path); err != nil {
		return "", fmt.Errorf("%w: userland %s with %v: %w", ErrUnavailable, u, more, err)
	}
	return path, nil
}

// rootFormat goes up when images are built otherwise.
const rootFormat = 1

// buildRoot installs the packages in an empty directory and packs it to path, which appears by a rename. apt checks
// the signatures of the archive; the maintainers' scripts run as root, confined to the directory by chroot(2).
func buildRoot(cache, arch string, packages []string, path string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("only root can install packages in a directory")
	}
	a, err := openArchive(cache, userland, arch)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), ".build") // one for all, as the cache's lock is held
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o755)); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	root, packed := filepath.Join(tmp, "root"), filepath.Join(tmp, "squashfs")
	if _, err := output(exec.Command("mmdebstrap", mmdebstrapArgs(a, packages, root)...)); err != nil {
		return err
	}
	for name, text := range rootFiles {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	_, err = output(exec.Command("mksquashfs", root, packed, "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "3"))
	if err != nil {
		return err
	}
	return os.Rename(packed, path)
}

func mmdebstrapArgs(a *archive, packages []string, root string) []string {
	args := []string{"--quiet", "--mode=root", "--variant=minbase", "--architectures=" + a.arch, "--include=" + strings.Join(packages, ",")}
	for _, dir := range unneeded {
		args = append(args, "--dpkgopt=path-exclude=/"+dir+"/*")
	}
	return append(args, a.suite, root, filepath.Join(a.dir, "sources", "debian.list"))
}

// rootFiles are those of the root that the machine it was built on had a part in.
var rootFiles = map[string]string{
	"etc/hostname":    "guest\n",
	"etc/hosts":       baseFiles["/etc/hosts"] + "127.0.1.1 guest\n",
	"etc/resolv.conf": "",
	"etc/fstab":       "",
	"etc/subuid":      baseFiles["/etc/subuid"],
	"etc/subgid":      baseFiles["/etc/subgid"],
}
