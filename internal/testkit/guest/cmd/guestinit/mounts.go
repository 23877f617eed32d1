package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts are those of a host with systemd, in order.
var mounts = []struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
	optional               bool // depends on the kernel's configuration
}{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", false},
	{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", false},
	{"dev", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755", false},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=620,ptmxmode=666,gid=5", false},
	{"shm", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777", false},
	{"mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", true},
	{"run", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755", false},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "nsdelegate", false},
	{"securityfs", "/sys/kernel/security", "securityfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", true},
	{"bpf", "/sys/fs/bpf", "bpf", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mode=700", true},
	{"tracefs", "/sys/kernel/tracing", "tracefs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", true},
}

func mountAll() error {
	for _, m := range mounts {
		if strings.HasPrefix(m.target, "/sys/") {
			if _, err := os.Stat(m.target); err != nil && m.optional {
				continue
			}
		} else if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil && !m.optional {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	// systemd makes mount events propagate, so that is what containr meets on most machines.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// openConsole gives messages a way out: the kernel starts init without one when the initramfs has no /dev/console.
func openConsole() error {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/console: %w", err)
	}
	for n := range 3 {
		if err := unix.Dup3(fd, n, 0); err != nil {
			return err
		}
	}
	return nil
}

// settle does the small things that a booted host has done. What fails is a warning: few tests need all of it.
func settle() []string {
	var warnings []string
	note := func(what string, err error) {
		if err != nil {
			warnings = append(warnings, what+": "+err.Error())
		}
	}
	note("host name", unix.Sethostname([]byte("guest")))
	note("loopback", loopbackUp())
	note("busybox", installBusybox())
	note("controllers", enableControllers("/sys/fs/cgroup"))
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		note("link", os.Symlink(target, "/dev/"+name))
	}
	return warnings
}

// installBusybox makes links to busybox for all that it can do, in a directory of their own: /bin stays free for the
// real programs of packages.
func installBusybox() error {
	return exec.Command("/bin/busybox", "--install", "-s", "/usr/lib/busybox").Run()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// enableControllers hands every controller down to the children of the root cgroup, as systemd does.
func enableControllers(root string) error {
	b, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(b)) {
		if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+"+name), 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}
