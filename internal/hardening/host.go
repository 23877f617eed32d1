package hardening

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/containr/containr/internal/doctor"
	"github.com/containr/containr/pkg/host"
)

// Host is what was found of a machine. Its zero value says nothing.
type Host struct {
	*doctor.Machine
	// Vulnerabilities are what the kernel says of each weakness of the processor, by name, as in
	// /sys/devices/system/cpu/vulnerabilities.
	Vulnerabilities map[string]string
	// Sysctls are values of kernel parameters by their names, without those that the kernel has not.
	Sysctls map[string]string
	// Lockdown is the kernel's own protection against root: none, integrity, confidentiality; empty if it has none.
	Lockdown string
	// Files are the state root, files of configuration and sockets that are there.
	Files []File
}

// File is something whose owner and mode count.
type File struct {
	Path string
	Kind FileKind
	Mode fs.FileMode
	UID  uint32
}

// FileKind says what a file may be.
type FileKind string

// Kinds of files.
const (
	StateRoot FileKind = "state root"            // for its owner alone
	Defaults  FileKind = "file of defaults"      // not for others to write
	Socket    FileKind = "socket of an engine"   // who may write to it is root
	Devices   FileKind = "device of all memory"  // for root alone
	SubIDs    FileKind = "subordinate ids table" // not for others to write
)

// minimum values of kernel parameters: less helps who looks for a way into the kernel.
var sysctls = []struct {
	name  string
	least int
	level Level
	why   string
}{
	{"kernel.kptr_restrict", 1, Note, "programs may read the kernel's addresses"},
	{"kernel.dmesg_restrict", 1, Note, "every user may read the kernel's messages, addresses in them included"},
	{"kernel.unprivileged_bpf_disabled", 1, Warn, "every user may load BPF programs into the kernel"},
	{"kernel.perf_event_paranoid", 2, Note, "every user may measure the kernel"},
	{"kernel.yama.ptrace_scope", 1, Note, "a program may look into all others of its user"},
	{"kernel.randomize_va_space", 2, Warn, "addresses of programs can be guessed"},
	{"fs.protected_symlinks", 1, Warn, "links in /tmp lead programs of others astray"},
	{"fs.protected_hardlinks", 1, Warn, "every user may make hard links to files of others"},
	{"net.core.bpf_jit_harden", 1, Note, "constants of BPF programs can be made instructions of the kernel"},
}

// CheckHost says what is weak on a machine, in the order of the report.
func CheckHost(h *Host) []Finding {
	l := list{}
	h.kernel(&l)
	for _, s := range sysctls {
		var value int
		text, ok := h.Sysctls[s.name]
		if _, err := fmt.Sscan(text, &value); ok && err == nil && value < s.least {
			l.add("host."+strings.ReplaceAll(s.name, ".", "-"), s.level, fmt.Sprintf("%s = %d: %s", s.name, value, s.why), fmt.Sprintf("sudo sysctl -w %s=%d", s.name, s.least))
		}
	}
	h.modules(&l)
	for _, f := range h.Files {
		h.file(&l, f)
	}
	return l.all
}

// list collects findings about one thing.
type list struct {
	container string
	all       []Finding
}

func (l *list) add(id string, level Level, why, mend string) {
	l.all = append(l.all, Finding{ID: id, Container: l.container, Level: level, Why: why, Mend: mend})
}

func (h *Host) kernel(l *list) {
	var open []string
	for name, state := range h.Vulnerabilities {
		if strings.HasPrefix(state, "Vulnerable") {
			open = append(open, name)
		}
	}
	if len(open) > 0 {
		slices.Sort(open)
		l.add("host.mitigations", Warn, "the processor's weaknesses "+strings.Join(open, ", ")+" are open: a container may read memory that is not its own", "update the microcode and the kernel; take mitigations=off from the kernel's command line")
	}
	if k := h.Facts.Kernel; k.Major > 0 && !k.AtLeast(5, 10) {
		l.add("host.kernel", Warn, fmt.Sprintf("Linux %d.%d gets no repairs any more from its authors", k.Major, k.Minor), "boot a kernel that your distribution still repairs")
	}
	if h.Lockdown == "none" {
		l.add("host.lockdown", Note, "root may change the running kernel: lockdown is off", "add lockdown=integrity to the kernel's command line, and boot")
	}
}

func (h *Host) modules(l *list) {
	if len(h.SeccompActions) == 0 {
		l.add("host.seccomp", High, "the kernel filters no system calls", "boot a kernel with CONFIG_SECCOMP_FILTER")
	}
	switch {
	case !h.Facts.AppArmor && !h.Facts.SELinux:
		l.add("host.module", Warn, "neither AppArmor nor SELinux is active: nothing is left between a container's root and files that it should not have", "add apparmor=1 security=apparmor to the kernel's command line, install apparmor, and boot")
	case h.Facts.AppArmor && h.NoDefaultProfile != "" && h.Facts.Root():
		l.add("host.apparmor", Warn, "containers run without an AppArmor profile: "+h.NoDefaultProfile, "install apparmor")
	}
	if text := h.Sysctls["kernel.unprivileged_userns_clone"]; text != "0" && h.MaxUserNamespaces != 0 && h.Facts.Root() && h.Sysctls["kernel.apparmor_restrict_unprivileged_userns"] != "1" {
		l.add("host.userns", Note, "every user may make user namespaces, in which most of the kernel can be reached; containers of ordinary users need them", "if there are none: sudo sysctl -w user.max_user_namespaces=0")
	}
	switch h.Facts.CgroupMode {
	case host.NoCgroup:
		l.add("host.cgroup", High, "there are no control groups: no limit of a container can hold", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
	case host.CgroupV1:
		l.add("host.cgroup-version", Note, "control groups are of version 1, which can be used to run programs as root of the host (release_agent) by who has CAP_SYS_ADMIN", "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line, and boot")
	}
	if h.Storage.Root != "" && h.Storage.FileSystem == "vfat" {
		l.add("host.root-filesystem", High, h.Storage.Root+" is on "+h.Storage.FileSystem+", which has no owners", "name a directory on ext4, xfs or btrfs with --root")
	}
}

func (h *Host) file(l *list, f File) {
	perm := f.Mode.Perm()
	other := f.UID != 0 && f.UID != h.Facts.UID
	switch {
	case f.Kind == StateRoot && (perm&0o022 != 0 || other):
		l.add("host.root-mode", High, fmt.Sprintf("others may write to the state root %s (mode %04o, user %d)", f.Path, perm, f.UID), "sudo chmod go-w "+f.Path)
	case f.Kind == Defaults && (perm&0o022 != 0 || other):
		l.add("host.config-mode", High, fmt.Sprintf("others may write to %s, which says how containers run (mode %04o, user %d)", f.Path, perm, f.UID), "sudo chmod go-w "+f.Path)
	case f.Kind == SubIDs && (perm&0o022 != 0 || f.UID != 0):
		l.add("host.subid-mode", High, fmt.Sprintf("others than root may write to %s, which says whose ids are whose (mode %04o)", f.Path, perm), "sudo chown root "+f.Path+"; sudo chmod 644 "+f.Path)
	case f.Kind == Socket && perm&0o002 != 0:
		l.add("host.socket-mode", High, fmt.Sprintf("every user may have root's rights through %s (mode %04o)", f.Path, perm), "sudo chmod o-rw "+f.Path)
	case f.Kind == Devices && perm&0o006 != 0:
		l.add("host.device-mode", High, fmt.Sprintf("every user may use %s (mode %04o)", f.Path, perm), "sudo chmod o-rw "+f.Path)
	}
}
