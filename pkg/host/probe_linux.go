package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/plan/linux"
)

// cgroupRoot is where systemd, and everybody after it, mounts control groups.
const cgroupRoot = "/sys/fs/cgroup"

// ErrOldKernel means that the kernel is older than Oldest.
var ErrOldKernel = errors.New("kernel too old")

// Probe reads the facts of this machine for this process. It fails when /proc is
// not mounted and, with ErrOldKernel, when the kernel is older than Oldest.
func Probe() (*Facts, error) {
	f := &Facts{Arch: runtime.GOARCH, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if err := f.probeKernel(); err != nil {
		return nil, err
	}
	if err := f.probeCapabilities(); err != nil {
		return nil, err
	}
	f.Inner = InUserNamespace()
	f.NoSetgroups = f.Inner && readWord("/proc/self/setgroups") == "deny"
	if err := f.probeCgroups(); err != nil {
		return nil, err
	}
	f.AppArmor = readWord("/sys/module/apparmor/parameters/enabled") == "Y"
	f.SELinux = isSELinux()
	f.NoTimeNamespace = unix.Access("/proc/self/ns/time", unix.F_OK) != nil
	if !f.Root() {
		f.probeUser()
	}
	return f, nil
}

// InUserNamespace reports whether this process is in a user namespace that is not the machine's first. That one has a number of its own in all
// kernels (PROC_USER_INIT_INO of include/linux/proc_ns.h). Without a procfs nobody knows, and it is taken for the first.
func InUserNamespace() bool {
	link, err := os.Readlink("/proc/self/ns/user")
	return err == nil && link != "user:[4026531837]"
}

func (f *Facts) probeKernel() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	k, err := ParseKernel(unix.ByteSliceToString(u.Release[:]))
	if err != nil {
		return err
	}
	f.Kernel = k
	if !k.AtLeast(Oldest.Major, Oldest.Minor) {
		return fmt.Errorf("linux %s: %w: containr needs %s or newer", k, ErrOldKernel, Oldest)
	}
	return nil
}

func (f *Facts) probeCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	f.Capabilities = uint64(data[0].Effective) | uint64(data[1].Effective)<<32
	var st unix.Statfs_t
	if err := unix.Statfs("/proc", &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("/proc is not mounted")
	}
	var err error
	f.LastCapability, err = lastCapability(func(n uint) error {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		return err
	})
	return err
}

// lastCapability is /proc/sys/kernel/cap_last_cap, but two questions are a tenth of the
// work of reading a file: of a capability that it knows, and of no other, the kernel says
// whether it is in the bounding set. Everything above would not be taken from a
// container, so an answer that makes no sense is an error.
func lastCapability(ask func(n uint) error) (uint, error) {
	n, err := uint(unix.CAP_LAST_CAP)+1, error(nil)
	for ; n < 64 && err == nil; n++ { // sets have 64 bits
		err = ask(n)
	}
	for n > 0 && (err == nil || errors.Is(err, unix.EINVAL)) {
		n--
		if err = ask(n); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("prctl(PR_CAPBSET_READ, %d): %w", n, err)
}

func (f *Facts) probeCgroups() error {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil {
		return nil // no cgroup file system: NoCgroup says it
	}
	own, err := sys.ReadFile("/proc/self/cgroup", maxProcFile)
	if err != nil {
		return err
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		f.CgroupMode = CgroupV2
		f.Hierarchies = []Hierarchy{f.unified(ownCgroup(string(own)))}
		return nil
	}
	f.Hierarchies = v1Hierarchies(string(own), func(path string) bool {
		return unix.Statfs(path, &st) == nil && st.Type == unix.CGROUP_SUPER_MAGIC
	})
	if len(f.Hierarchies) > 0 {
		f.CgroupMode = CgroupV1
	}
	return nil
}

// unified describes version 2. Making a cgroup takes write access to the directory
// above it, moving a process takes it to the file cgroup.procs of the directory that
// both places have in common, see "Delegation" in cgroups(7).
func (f *Facts) unified(own string) Hierarchy {
	h := Hierarchy{Path: cgroupRoot, Own: own}
	from := cgroupRoot
	if !f.Administrator() {
		from = filepath.Join(cgroupRoot, filepath.Dir(own))
		h.Delegated = mayWrite(from) && mayWrite(from+"/cgroup.procs")
	}
	h.Controllers = strings.Fields(readWord(from + "/cgroup.controllers"))
	return h
}

func mayWrite(path string) bool {
	return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil
}

// ownCgroup finds the unified hierarchy's line, "0::/path".
func ownCgroup(table string) string {
	for line := range strings.Lines(table) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n")
		}
	}
	return "/"
}

// BesideV1 is where this process is in a tree of version 2 that is there beside version 1;
// empty if there is none, or nothing else.
func (f *Facts) BesideV1() (string, error) {
	if f.CgroupMode != CgroupV1 {
		return "", nil
	}
	own, err := sys.ReadFile("/proc/self/cgroup", maxProcFile)
	if err != nil || !strings.Contains("\n"+string(own), "\n0::") {
		return "", err
	}
	return ownCgroup(string(own)), nil
}

// v1Hierarchies reads lines like "4:cpu,cpuacct:/path" of /proc/self/cgroup. The
// mount point carries the controllers' names, in the kernel's order.
func v1Hierarchies(table string, mounted func(path string) bool) []Hierarchy {
	var list []Hierarchy
	for line := range strings.Lines(table) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || parts[1] == "" {
			continue
		}
		path := cgroupRoot + "/" + strings.TrimPrefix(parts[1], "name=")
		if mounted(path) {
			list = append(list, Hierarchy{Controllers: strings.Split(parts[1], ","), Path: path, Own: parts[2]})
		}
	}
	return list
}

func isSELinux() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/selinux", &st) == nil && uint32(st.Type) == unix.SELINUX_MAGIC
}

// probeUser finds out what an ordinary user may do with user namespaces.
func (f *Facts) probeUser() {
	switch {
	case readWord("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		f.UserNamespacesOff = "sysctl kernel.unprivileged_userns_clone is 0"
	case readWord("/proc/sys/user/max_user_namespaces") == "0":
		f.UserNamespacesOff = "sysctl user.max_user_namespaces is 0"
	case readWord("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		f.UserNamespacesOff = "sysctl kernel.apparmor_restrict_unprivileged_userns is 1"
	}
	f.Newuidmap = findProgram("newuidmap")
	f.Newgidmap = findProgram("newgidmap")
	name := userName(f.UID)
	f.SubUIDs = disjoint(f.UID, idRanges(subUIDFile, name, f.UID))
	f.SubGIDs = disjoint(f.GID, idRanges(subGIDFile, name, f.UID))
}

func findProgram(name string) string {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if filepath.IsAbs(path) && unix.Access(path, unix.X_OK) == nil {
			return path
		}
	}
	return ""
}

func userName(uid uint32) string {
	table, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return ""
	}
	want := strconv.FormatUint(uint64(uid), 10)
	for line := range strings.Lines(string(table)) {
		if p := strings.SplitN(line, ":", 4); len(p) == 4 && p[2] == want {
			return p[0]
		}
	}
	return ""
}

func idRanges(path, name string, uid uint32) []IDRange {
	table, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return parseIDRanges(string(table), name, strconv.FormatUint(uint64(uid), 10))
}

// parseIDRanges reads lines "owner:first:count", see subuid(5); the owner is a
// name or a number. Lines of other form are passed over, as shadow does.
func parseIDRanges(table, name, uid string) []IDRange {
	var list []IDRange
	for line := range strings.Lines(table) {
		p := strings.Split(strings.TrimSpace(line), ":")
		if len(p) != 3 || p[0] != uid && (name == "" || p[0] != name) {
			continue
		}
		first, err1 := strconv.ParseUint(p[1], 10, 32)
		count, err2 := strconv.ParseUint(p[2], 10, 32)
		if err1 == nil && err2 == nil && count > 0 {
			list = append(list, IDRange{uint32(first), uint32(count)})
		}
	}
	return list
}

// disjoint leaves out of each range what is in one before it, and the id own: the kernel maps no id twice. A user who is granted
// ids by name and by number has two lines.
func disjoint(own uint32, ranges []IDRange) []IDRange {
	taken := []IDRange{{own, 1}}
	for len(ranges) > 0 {
		r := ranges[0]
		ranges = ranges[1:]
		end, whole := uint64(r.First)+uint64(r.Count), true
		for _, t := range taken {
			tEnd := uint64(t.First) + uint64(t.Count)
			if uint64(r.First) >= tEnd || uint64(t.First) >= end {
				continue
			}
			whole = false // what lies before and behind goes on
			if r.First < t.First {
				ranges = append([]IDRange{{r.First, t.First - r.First}}, ranges...)
			}
			if tEnd < end {
				ranges = append([]IDRange{{uint32(tEnd), uint32(end - tEnd)}}, ranges...)
			}
			break
		}
		if whole {
			taken = append(taken, r)
		}
	}
	if len(taken) == 1 {
		return nil
	}
	return taken[1:]
}

// maxProcFile bounds what is read of /proc and /sys, in bytes.
const maxProcFile = 1 << 20

// readWord reads a small file of /proc or /sys; what cannot be read is "".
func readWord(path string) string {
	b, err := sys.ReadFile(path, maxProcFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Look looks at the source of a bind.
func Look(path string) Source {
	var file unix.Stat_t
	if err := unix.Stat(path, &file); err != nil {
		return Source{}
	}
	s := Source{Kind: kind(&file)}
	if t := file.Mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
		s.Device = Device{Kind: t, Major: unix.Major(uint64(file.Rdev)), Minor: unix.Minor(uint64(file.Rdev))}
	}
	s.Mount = MountOf(path)
	return s
}

// MountOf returns the attributes of the mount that a path lies on, none if it cannot be
// looked at.
func MountOf(path string) linux.MountFlags {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return 0
	}
	// The flags of statfs(2) are those of mount(2), but for one.
	const same = linux.MsReadonly | linux.MsNosuid | linux.MsNodev | linux.MsNoexec | linux.MsNoatime | linux.MsNodiratime
	flags := linux.MountFlags(st.Flags) & same
	const noSymfollow = 0x2000
	if st.Flags&noSymfollow != 0 {
		flags |= linux.MsNosymfollow
	}
	return flags
}

// Kind looks at a path of the host.
func Kind(path string) FileKind {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Missing
	}
	return kind(&st)
}

func kind(st *unix.Stat_t) FileKind {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return Directory
	}
	return File
}
