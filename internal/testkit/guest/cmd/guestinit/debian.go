package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

// Where the agent and its unit are in Debian.
const (
	agentPath = "/usr/lib/containr-test/" + agentName
	unitPath  = "/etc/systemd/system/" + agentName + ".service"
)

// unit makes the agent a service. A program that is killed for want of memory must not take the agent with it.
const unit = `[Unit]
Description=runs programs for the host
[Service]
ExecStart=` + agentPath + `
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
TasksMax=infinity
LimitMEMLOCK=infinity
OOMPolicy=continue
[Install]
WantedBy=multi-user.target
`

// quiet are the units that would do something at a time of their own.
var quiet = []string{"timers.target", "getty.target", "serial-getty@ttyS0.service", "systemd-update-utmp.service"}

// early are the mounts that systemd expects, or that are needed before it.
var early = []struct{ source, target, fstype, data string }{
	{"proc", "/proc", "proc", ""}, {"sysfs", "/sys", "sysfs", ""}, {"dev", "/dev", "devtmpfs", "mode=755"}, {"run", "/run", "tmpfs", "mode=755"},
}

// inMemory are directories where file systems are stacked: overlayfs takes no layer that is written to from an
// overlayfs, which the root is.
var inMemory = []struct{ dir, mode string }{
	{"/tmp", "1777"}, {"/var/tmp", "1777"}, {"/var/lib/containr", "711"}, {"/var/lib/containers", "755"},
	{"/var/lib/containerd", "711"}, {"/var/lib/docker", "710"},
}

// startDebian makes the disk the root, writable in memory, and executes its init. It returns only when it cannot.
func startDebian(c wire.Boot) error {
	for _, m := range early {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.fstype, 0, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := openConsole(); err != nil {
		return err
	}
	for _, w := range load(c) {
		fmt.Fprintln(os.Stderr, "guestinit:", w)
	}
	if err := mountDisk(); err != nil {
		return err
	}
	if err := furnish(); err != nil {
		return err
	}
	for _, m := range early {
		if err := unix.Mount(m.target, newRoot+m.target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m.target, err)
		}
	}
	if err := enterNewRoot(); err != nil {
		return err
	}
	return unix.Exec("/sbin/init", []string{"/sbin/init"}, []string{"PATH=/usr/sbin:/usr/bin", "TERM=dumb"})
}

// mountDisk mounts the disk, which is read only, with a file system in memory above it.
func mountDisk() error {
	for _, dir := range []string{newRoot, "/disk", "/memory"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("/dev/vda", "/disk", "squashfs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	if err := unix.Mount("memory", "/memory", "tmpfs", 0, "mode=755,size=75%"); err != nil {
		return fmt.Errorf("mount the disk's upper layer: %w", err)
	}
	for _, dir := range []string{"/memory/upper", "/memory/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	err := unix.Mount("root", newRoot, "overlay", 0, "lowerdir=/disk,upperdir=/memory/upper,workdir=/memory/work")
	if err != nil {
		return fmt.Errorf("mount the disk's layers: %w", err)
	}
	for _, m := range inMemory {
		if err := os.MkdirAll(newRoot+m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("memory", newRoot+m.dir, "tmpfs", 0, "mode="+m.mode); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	return nil
}

// furnish puts into Debian what depends on the kernel and on this program. What has been copied is removed from the
// initramfs, whose memory nobody could free later.
func furnish() error {
	modules := filepath.Join("/usr/lib/modules", release())
	if err := os.MkdirAll(newRoot+modules, 0o755); err != nil {
		return err
	}
	found, err := filepath.Glob(wire.ModuleDir + "/*.ko")
	if err != nil {
		return err
	}
	for _, path := range found {
		if err := moveFile(path, newRoot+filepath.Join(modules, filepath.Base(path))); err != nil {
			return err
		}
	}
	depmod := exec.Command("/sbin/depmod", "-a", release())
	depmod.SysProcAttr = &syscall.SysProcAttr{Chroot: newRoot}
	if out, err := depmod.CombinedOutput(); err != nil {
		return fmt.Errorf("depmod: %w: %s", err, out)
	}
	if err := os.MkdirAll(newRoot+filepath.Dir(agentPath), 0o755); err != nil {
		return err
	}
	if err := moveFile("/init", newRoot+agentPath); err != nil {
		return err
	}
	if err := os.Chmod(newRoot+agentPath, 0o755); err != nil {
		return err
	}
	return writeUnits()
}

func moveFile(from, to string) error {
	if err := copyFile(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

func writeUnits() error {
	if err := os.WriteFile(newRoot+unitPath, []byte(unit), 0o644); err != nil {
		return err
	}
	wants := newRoot + "/etc/systemd/system/multi-user.target.wants/"
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	if err := os.Symlink(unitPath, wants+filepath.Base(unitPath)); err != nil {
		return err
	}
	for _, name := range quiet {
		if err := os.Symlink(os.DevNull, newRoot+"/etc/systemd/system/"+name); err != nil {
			return err
		}
	}
	return nil
}
