package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/apparmor"
	"github.com/containr/containr/internal/filelimit"
	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/host/parts"
)

// Options say what Probe cannot find out by itself.
type Options struct {
	// Root is the state root, Init and Monitor the paths of containr-init and -monitor, empty if there is none.
	Root, Init, Monitor string
	// Snapshotter is the one that was asked for, empty for the best.
	Snapshotter string
	// BaseImage says that the built-in image is there.
	BaseImage bool
	// Registries are to be asked, by HTTPS. Nothing else here uses a network.
	Registries []string
}

// Probe looks at this machine. What cannot be found out is left out: Examine says so. It changes nothing.
func Probe(ctx context.Context, o Options) *Machine {
	m := &Machine{Snapshotter: o.Snapshotter, Init: o.Init, Monitor: o.Monitor, BaseImage: o.BaseImage, Now: time.Now()}
	m.OpenFiles, _ = filelimit.Original()
	m.Fuse.ProbeFuse()
	m.probeFacts()
	m.probeKernel()
	m.probeGroups()
	m.probeUser()
	m.probeSettings()
	m.probeStorage(o.Root)
	m.probeTime()
	m.Criu, _ = host.LookCRIU("") // none is what the check is about
	m.Interpreters = interpreters()
	for _, name := range o.Registries {
		m.Registries = append(m.Registries, askRegistry(ctx, name))
	}
	return m
}

func (m *Machine) probeFacts() {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Release = unix.ByteSliceToString(u.Release[:])
	}
	f, err := host.Probe()
	if err == nil {
		f.AskSubordinateIDs()
	}
	if err != nil {
		m.Facts = host.Facts{Arch: runtime.GOARCH, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
		if !errors.Is(err, host.ErrOldKernel) { // of which another check tells
			m.FactsError = err.Error()
		}
		return
	}
	m.Facts = *f
}

func (m *Machine) probeKernel() {
	m.Namespaces = entries("/proc/self/ns")
	for line := range strings.Lines(read("/proc/filesystems")) {
		if f := strings.Fields(line); len(f) > 0 {
			m.FileSystems = append(m.FileSystems, f[len(f)-1])
		}
	}
	k := parts.Read(m.Release)
	for _, name := range []string{"overlay", "erofs", "mqueue"} {
		if !slices.Contains(m.FileSystems, name) && k.Loadable(name) {
			m.FileSystems = append(m.FileSystems, name)
		}
	}
	m.Parts = map[Part]Presence{}
	for part, option := range map[Part]string{Bridge: "CONFIG_BRIDGE", Veth: "CONFIG_VETH", NFTables: "CONFIG_NF_TABLES", Tun: "CONFIG_TUN"} {
		m.Parts[part] = k.Presence(string(part), option)
	}
	m.probeFirewall()
	m.SeccompActions = strings.Fields(read("/proc/sys/kernel/seccomp/actions_avail"))
	m.Landlock, _ = host.LandlockABI() // why not, the next says
	m.NoLandlock = host.WhyNoLandlock()
	m.NoDefaultProfile = apparmor.Usable(m.Facts.AppArmor, m.Facts.MayLoadProfiles())
	if text := read("/sys/kernel/security/lsm"); text != "" {
		m.SecurityModules = strings.Split(strings.TrimSpace(text), ",")
	}
	m.Pressure = unix.Access("/proc/pressure/memory", unix.F_OK) == nil
	m.MaxUserNamespaces = -1
	if n, err := strconv.ParseInt(strings.TrimSpace(read("/proc/sys/user/max_user_namespaces")), 10, 64); err == nil && slices.Contains(m.Namespaces, "user") {
		m.MaxUserNamespaces = n
	}
	if strings.TrimSpace(read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")) == "1" {
		m.UserNamespacesTried = tryUserNamespace()
	}
	m.Distribution = parseRelease(read("/etc/os-release"))
}

// tryUserNamespace makes a process in a user namespace, and has it make a mount namespace, which takes privileges in the first: whether
// a profile lets this program, only that tells an ordinary user. It then executes what cannot be executed.
func tryUserNamespace() bool {
	_, err := syscall.ForkExec("/", []string{"/"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, Unshareflags: unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}})
	return errors.Is(err, unix.EACCES)
}

// probeFirewall asks nf_tables, unless it is a module that asking would load.
func (m *Machine) probeFirewall() {
	waits := strings.Contains(read(filepath.Join("/lib/modules", m.Release, "modules.dep")), "/nf_tables.ko") && !strings.Contains(read("/proc/modules"), "nf_tables ")
	if waits || !m.Facts.Root() {
		return
	}
	chains, _ := nft.Chains() // what cannot be found out is left out
	for _, c := range chains {
		if c.Input && c.Drops {
			m.InputDrops = append(m.InputDrops, InputDrop{c.Chain + " of table " + c.Family + " " + c.Table, c.Family + " " + c.Table + " " + c.Chain})
		}
	}
}

func (m *Machine) probeGroups() {
	for _, h := range m.Facts.Hierarchies {
		counts := filepath.Join(h.Path, h.Own, "memory.swap.max")
		if m.Facts.CgroupMode == host.CgroupV1 {
			counts = filepath.Join(h.Path, "memory.memsw.limit_in_bytes")
		}
		m.SwapCounted = m.SwapCounted || unix.Access(counts, unix.F_OK) == nil
	}
	if m.Facts.CgroupMode == host.CgroupV2 && !m.SwapCounted { // the root group has no such file, those below it may
		below, _ := filepath.Glob("/sys/fs/cgroup/*/memory.swap.max") // a pattern that is well formed
		m.SwapCounted = len(below) > 0
	}
	m.Systemd = unix.Access("/run/systemd/system", unix.F_OK) == nil
	if m.Systemd {
		f := m.Facts // what is asked for must not change what commands do
		f.Hierarchies = slices.Clone(f.Hierarchies)
		if err := f.ProbeManager(); err != nil {
			m.ManagerError = err.Error()
		} else if m.Facts.CgroupMode == host.CgroupV2 {
			m.ManagerControllers = f.Hierarchies[0].Controllers
		}
	}
}

func (m *Machine) probeUser() {
	m.User = strconv.Itoa(int(m.Facts.UID))
	if u, err := user.LookupId(m.User); err == nil {
		m.User = u.Username
	}
	m.Newuidmap, m.Newgidmap = helper(m.Facts.Newuidmap), helper(m.Facts.Newgidmap)
	m.Lingers = unix.Access("/var/lib/systemd/linger/"+m.User, unix.F_OK) == nil
	m.NoNewPrivileges = strings.Contains(read("/proc/self/status"), "\nNoNewPrivs:\t1\n")
	m.RuntimeDir.Path = os.Getenv("XDG_RUNTIME_DIR")
	var st unix.Stat_t
	if unix.Stat(m.RuntimeDir.Path, &st) == nil {
		m.RuntimeDir.Own = st.Uid == m.Facts.UID && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&0o022 == 0
	}
}

func helper(path string) Helper {
	h := Helper{Path: path}
	var st unix.Stat_t
	if path == "" || unix.Stat(path, &st) != nil {
		return h
	}
	size, err := unix.Getxattr(path, "security.capability", nil)
	h.Privileged = st.Mode&unix.S_ISUID != 0 && st.Uid == 0 || err == nil && size > 0
	return h
}

// asked are the kernel parameters that checks look at.
var asked = []string{
	"kernel.unprivileged_userns_clone", "kernel.apparmor_restrict_unprivileged_userns", "net.ipv4.ip_forward",
	"net.ipv6.conf.all.forwarding", "net.ipv6.conf.lo.disable_ipv6", "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
}

func (m *Machine) probeSettings() {
	m.Settings = map[string]string{}
	for _, name := range asked {
		if text := read("/proc/sys/" + strings.ReplaceAll(name, ".", "/")); text != "" {
			m.Settings[name] = strings.TrimSpace(text)
		}
	}
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err == nil {
		m.Tunnel = f.Close() == nil
	}
}

// probeStorage asks the file system of the state root, or, where it has not been made yet, of the directory in which
// it would be.
func (m *Machine) probeStorage(root string) {
	m.Storage.Root = root
	if root == "" {
		return
	}
	dir := root
	for {
		_, err := os.Stat(dir)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			m.Storage.Error = err.Error()
			return
		}
		dir = filepath.Dir(dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		m.Storage.Error = err.Error()
		return
	}
	s := &m.Storage
	s.Size, s.Free = st.Blocks*uint64(st.Bsize), st.Bavail*uint64(st.Bsize)
	s.Inodes, s.FreeInodes = st.Files, st.Ffree
	s.ReadOnly = st.Flags&unix.ST_RDONLY != 0
	s.Writable = unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS) == nil
	s.FileSystem = fileSystemOf(read("/proc/self/mountinfo"), dir)
}

// fileSystemOf finds the type of the mount that a path lies on: the last of those with the longest mount point.
func fileSystemOf(table, path string) string {
	best, found := "", ""
	for line := range strings.Lines(table) {
		before, after, ok := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(kind) == 0 {
			continue
		}
		point := sys.UnescapeMount(f[4])
		if (point == "/" || path == point || strings.HasPrefix(path, point+"/")) && len(point) >= len(best) {
			best, found = point, kind[0]
		}
	}
	return found
}

func (m *Machine) probeTime() {
	const unsynchronized = 0x0040 // STA_UNSYNC of adjtimex(2)
	var t unix.Timex
	_, err := unix.Adjtimex(&t)
	m.Synchronized = err == nil && t.Status&unsynchronized == 0
}

// interpreters are the names below binfmt_misc of those for programs of other machines.
func interpreters() []string {
	var found []string
	for _, name := range entries("/proc/sys/fs/binfmt_misc") {
		if arch, ok := strings.CutPrefix(name, "qemu-"); ok && strings.HasPrefix(read("/proc/sys/fs/binfmt_misc/"+name), "enabled") {
			found = append(found, arch)
		}
	}
	return found
}

// parseRelease reads os-release(5).
func parseRelease(text string) Distribution {
	var d Distribution
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			d.ID = value
		case "ID_LIKE":
			d.Like = strings.Fields(value)
		case "PRETTY_NAME":
			d.Name = value
		}
	}
	return d
}

// maxFile bounds what is read of any file, in bytes.
const maxFile = 8 << 20

// read reads a file; what cannot be read is empty.
func read(path string) string {
	data, err := sys.ReadFile(path, maxFile)
	if err != nil {
		return ""
	}
	return string(data)
}

// entries are the names in a directory, none if it cannot be read.
func entries(dir string) []string {
	list, _ := os.ReadDir(dir)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
