package doctor

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/containr/containr/pkg/host"
)

var update = flag.Bool("update", false, "write the golden files anew")

// allCapabilities is what root has on Linux 5.9 and newer.
const allCapabilities = 1<<41 - 1

// healthy is a machine on which nothing is wanting, for root.
func healthy() *Machine {
	return &Machine{
		Release: "6.12.9-amd64",
		Facts: host.Facts{
			Arch: "amd64", Kernel: host.Kernel{Major: 6, Minor: 12}, Capabilities: allCapabilities, LastCapability: 40,
			CgroupMode:  host.CgroupV2,
			Hierarchies: []host.Hierarchy{{Path: "/sys/fs/cgroup", Own: "/", Controllers: []string{"cpuset", "cpu", "io", "memory", "pids"}}},
			AppArmor:    true,
		},
		Distribution:   Distribution{ID: "debian", Name: "Debian GNU/Linux 13 (trixie)"},
		User:           "root",
		Namespaces:     []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"},
		FileSystems:    []string{"sysfs", "tmpfs", "proc", "devpts", "mqueue", "overlay"},
		Parts:          map[Part]Presence{Bridge: Present, Veth: Present, NFTables: Present, Tun: Present},
		SeccompActions: []string{"kill_process", "errno", "user_notif", "allow"}, SecurityModules: []string{"capability", "landlock", "apparmor"}, Landlock: 6,
		Pressure: true, MaxUserNamespaces: 63000, SwapCounted: true, Systemd: true,
		Settings: map[string]string{
			"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1", "net.ipv6.conf.lo.disable_ipv6": "0",
			"net.ipv4.ping_group_range": "0\t2147483647", "net.ipv4.ip_unprivileged_port_start": "80",
		},
		Tunnel:    true,
		Storage:   Storage{Root: "/var/lib/containr", FileSystem: "ext4", Size: 100e9, Free: 60e9, Inodes: 6e6, FreeInodes: 5e6, Writable: true},
		OpenFiles: 1024, Now: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), Synchronized: true,
		Criu: "/usr/sbin/criu", Init: "/usr/local/bin/containr-init", Monitor: "/usr/local/bin/containr-monitor", BaseImage: true, Interpreters: []string{"aarch64"},
	}
}

// person is the same machine for an ordinary user, with all that an administrator can give.
func person() *Machine {
	m := healthy()
	m.User, m.Facts.UID, m.Facts.GID, m.Facts.Capabilities = "ann", 1000, 1000, 0
	m.Facts.SubUIDs, m.Facts.SubGIDs = []host.IDRange{{First: 100000, Count: 65536}}, []host.IDRange{{First: 100000, Count: 65536}}
	m.Newuidmap, m.Newgidmap = Helper{"/usr/bin/newuidmap", true}, Helper{"/usr/bin/newgidmap", true}
	m.RuntimeDir, m.Lingers = RuntimeDir{"/run/user/1000", true}, true
	m.Facts.Hierarchies[0].Delegated = true
	m.Storage.Root = "/home/ann/.local/share/containr"
	return m
}

// machines are what people really have.
var machines = map[string]func() *Machine{
	"healthy": healthy,
	"person":  person,
	"desktop": func() *Machine { // an ssh session on a Debian
		m := person()
		m.Distribution = Distribution{ID: "debian"}
		m.Systemd, m.ManagerControllers = true, []string{"memory", "pids"}
		m.Facts.Hierarchies[0].Delegated, m.Facts.Hierarchies[0].Controllers = false, []string{"memory", "pids"}
		m.NoDefaultProfile = "only root with CAP_MAC_ADMIN may load a profile"
		return m
	},
	"no-parser": func() *Machine {
		m := healthy()
		m.Distribution, m.NoDefaultProfile = Distribution{ID: "debian"}, "apparmor_parser is not installed"
		return m
	},
	"ubuntu-person": func() *Machine {
		m := person()
		m.Distribution = Distribution{ID: "ubuntu", Like: []string{"debian"}}
		m.Facts.SubUIDs, m.Facts.SubGIDs, m.Newuidmap, m.Newgidmap = nil, nil, Helper{}, Helper{}
		m.Facts.Hierarchies[0].Delegated, m.Facts.Hierarchies[0].Controllers = false, nil
		m.RuntimeDir, m.Lingers = RuntimeDir{}, false
		m.ManagerError = "no such socket"
		m.Settings["kernel.apparmor_restrict_unprivileged_userns"] = "1"
		m.Settings["net.ipv4.ping_group_range"], m.Settings["net.ipv4.ip_unprivileged_port_start"] = "1\t0", "1024"
		return m
	},
	"old-fedora": func() *Machine {
		m := person()
		m.Release, m.Facts.Kernel = "5.10.0-1.x86_64", host.Kernel{Major: 5, Minor: 10}
		m.Distribution = Distribution{ID: "fedora"}
		m.Facts.CgroupMode, m.Facts.Hierarchies = host.CgroupV1, []host.Hierarchy{{Path: "/sys/fs/cgroup/memory", Controllers: []string{"memory"}}}
		m.Facts.AppArmor, m.Facts.SELinux = false, true
		m.Newuidmap.Privileged, m.NoNewPrivileges = false, true
		m.Facts.SubUIDs[0].Count = 1000
		m.Criu, m.Interpreters, m.Pressure = "", nil, false
		return m
	},
	"small-vm": func() *Machine { // root of a virtual machine whose kernel was made small
		m := healthy()
		m.Facts.Capabilities &^= 1<<capSysResource | 1<<capNetAdmin
		m.Facts.NoTimeNamespace, m.Facts.CgroupMode, m.SwapCounted = true, host.CgroupV1, false
		m.Facts.Hierarchies = []host.Hierarchy{{Path: "/sys/fs/cgroup/memory", Controllers: []string{"memory"}}}
		m.Systemd, m.Facts.AppArmor = true, false
		m.ManagerError = "no answer"
		m.InputDrops = []InputDrop{{"INPUT of table ip filter", "ip filter INPUT"}}
		return m
	},
	"container": func() *Machine { // root in a container of somebody else's
		m := healthy()
		m.Facts.Capabilities = 0xa80425fb
		m.Facts.AppArmor, m.Systemd, m.SecurityModules = false, false, nil
		m.Landlock, m.NoLandlock = 0, "this kernel has no Landlock"
		m.Facts.CgroupMode, m.Facts.Hierarchies, m.SwapCounted = host.NoCgroup, nil, false
		m.Storage.FileSystem, m.Storage.Free, m.Storage.FreeInodes = "overlay", 1e6, 10
		m.MaxUserNamespaces, m.Tunnel, m.BaseImage, m.Init, m.Monitor = 0, false, false, "", ""
		m.Parts = map[Part]Presence{Bridge: Absent, Veth: Unknown, NFTables: Absent, Tun: Absent}
		m.Settings = map[string]string{"net.ipv4.ip_forward": "0"}
		m.Now, m.Synchronized, m.OpenFiles = time.Unix(0, 0), false, 256
		return m
	},
	"nothing": func() *Machine {
		return &Machine{Facts: host.Facts{Arch: "riscv64", UID: 7}, User: "7", Release: "4.19.0", FactsError: "/proc is not mounted",
			Registries: []Registry{{Name: "docker.io"}, {Name: "registry.example", Error: "no such host"}}}
	},
}

// TestMachines compares what is said of whole machines. Read the golden files: they are what users read.
func TestMachines(t *testing.T) {
	for name, machine := range machines {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			findings := Examine(machine())
			for _, f := range findings {
				fmt.Fprintf(&b, "%s / %s: %s: %s\n", f.Group, f.Check, f.State, f.Why)
				if f.Mend != "" {
					fmt.Fprintf(&b, "\t%s\n", f.Mend)
				}
			}
			fmt.Fprintf(&b, "containers can be run: %v\n", CanRun(findings))
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestEveryCheckCanFail: each check has a machine above for which it is well, and one for which it is not.
func TestEveryCheckCanFail(t *testing.T) {
	well, ill := map[string]bool{}, map[string]bool{}
	names := map[string]bool{}
	for _, machine := range machines {
		for _, f := range Examine(machine()) {
			if f.Group == "Registries" {
				continue
			}
			names[f.Check] = true
			if f.State == OK {
				well[f.Check] = true
			} else {
				ill[f.Check] = true
			}
			if f.State == OK && f.Mend != "" {
				t.Errorf("%s is well, and is to be mended: %s", f.Check, f.Mend)
			}
		}
	}
	for name := range names {
		if !well[name] {
			t.Errorf("%s is well on no machine", name)
		}
		if !ill[name] {
			t.Errorf("%s is well on every machine", name)
		}
	}
	if len(names) < 40 {
		t.Errorf("%d checks, fewer than are documented", len(names))
	}
}

// TestOneThingMissing: what is needed, and nothing else, keeps containers from running.
func TestOneThingMissing(t *testing.T) {
	for name, c := range map[string]struct {
		machine func() *Machine
		change  func(*Machine)
		runs    bool
	}{
		"all is well":       {healthy, func(*Machine) {}, true},
		"no AppArmor":       {healthy, func(m *Machine) { m.Facts.AppArmor = false }, true},
		"no control groups": {healthy, func(m *Machine) { m.Facts.CgroupMode, m.Facts.Hierarchies = host.NoCgroup, nil }, true},
		"old kernel":        {healthy, func(m *Machine) { m.Release = "5.4.0" }, false},
		"no overlay": {healthy, func(m *Machine) {
			m.FileSystems = slices.DeleteFunc(m.FileSystems, func(s string) bool { return s == "overlay" })
		}, true},
		"read-only state":                          {healthy, func(m *Machine) { m.Storage.ReadOnly = true }, false},
		"no user namespaces":                       {person, func(m *Machine) { m.MaxUserNamespaces = 0 }, false},
		"the same for root":                        {healthy, func(m *Machine) { m.MaxUserNamespaces = 0 }, true},
		"Debian's own switch":                      {person, func(m *Machine) { m.Settings["kernel.unprivileged_userns_clone"] = "0" }, false},
		"user namespaces for those with a profile": {person, func(m *Machine) { m.Settings["kernel.apparmor_restrict_unprivileged_userns"] = "1" }, false},
		"a profile": {person, func(m *Machine) {
			m.Settings["kernel.apparmor_restrict_unprivileged_userns"], m.UserNamespacesTried = "1", true
		}, true},
		"no subordinate ids": {person, func(m *Machine) { m.Facts.SubUIDs = nil }, true},
		"overlay for root":   {person, func(m *Machine) { m.Facts.Kernel = host.Kernel{Major: 5, Minor: 10} }, true},
	} {
		m := c.machine()
		c.change(m)
		if got := CanRun(Examine(m)); got != c.runs {
			t.Errorf("%s: containers can be run: %v", name, got)
		}
	}
}

func TestInstallLines(t *testing.T) {
	for id, want := range map[string]string{
		"debian": "sudo apt-get install uidmap", "fedora": "sudo dnf install shadow-utils", "arch": "sudo pacman -S shadow",
		"alpine": "sudo apk add shadow-utils", "opensuse": "sudo zypper install shadow-utils", "": "install the package uidmap (called shadow-utils by some)",
	} {
		if got := (Distribution{ID: id}).install("uidmap", "shadow-utils", "shadow"); got != want {
			t.Errorf("%s: %s", id, got)
		}
	}
}
