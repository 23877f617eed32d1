package hardening

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/container"
)

// CheckContainer says what is weak in a container, in the order of the report. ordinary says that it belongs to an
// ordinary user, who has no more to lose than is his.
func CheckContainer(r *container.Record, ordinary bool) []Finding {
	l := list{container: r.Name}
	c := &r.Config
	privileges(&l, r)
	confinement(&l, c)
	namespaces(&l, &c.Namespaces)
	for _, m := range mountsOf(r) {
		if checkMount(&l, m, m.Source) {
			continue
		}
		if real, err := filepath.EvalSymlinks(m.Source); err == nil && real != m.Source { // what it leads to is what is mounted
			checkMount(&l, m, real)
		}
	}
	limits(&l, c)
	user(&l, r, ordinary)
	exposure(&l, r)
	return l.all
}

func privileges(l *list, r *container.Record) {
	c := &r.Config
	if c.Privileged {
		l.add("container.privileged", High, "it has every capability and device: its root is the host's", "leave out --privileged; give what it needs: --cap-add, --device")
		return
	}
	var strong, added []string
	for _, name := range container.AddedCapabilities(capabilities(r)) {
		added = append(added, name)
		if slices.Contains(strongCapabilities, name) {
			strong = append(strong, name)
		}
	}
	switch {
	case len(strong) > 0:
		l.add("container.capabilities", High, "with "+strings.Join(strong, ", ")+" its root can become the host's", "leave out --cap-add "+flagNames(strong))
	case len(added) > 0:
		l.add("container.capabilities", Warn, "it has more than the usual capabilities: "+strings.Join(added, ", "), "leave out --cap-add "+flagNames(added))
	case len(capabilities(r)) > 0 && len(c.CapDrop) == 0:
		l.add("container.capabilities-default", Note, fmt.Sprintf("it has the usual %d capabilities, more than most programs need", len(capabilities(r))), "--cap-drop ALL, and --cap-add what it needs")
	}
	if !c.Security.NoNewPrivileges {
		l.add("container.new-privileges", Note, "set-user-ID programs of its image may gain privileges", "--security-opt no-new-privileges")
	}
	if len(c.Devices) > 0 {
		var names []string
		for _, d := range c.Devices {
			names = append(names, d.Host)
		}
		l.add("container.devices", Warn, "it reaches devices of the host: "+strings.Join(names, ", "), "leave out --device")
	}
}

// strongCapabilities are as good as root on the host.
var strongCapabilities = []string{"CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_MAC_ADMIN", "CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO"}

func capabilities(r *container.Record) []string {
	if r.Spec == nil || r.Spec.Process == nil || r.Spec.Process.Capabilities == nil {
		return nil
	}
	return r.Spec.Process.Capabilities.Bounding
}

func flagNames(caps []string) string {
	var out []string
	for _, c := range caps {
		out = append(out, strings.TrimPrefix(c, "CAP_"))
	}
	return strings.Join(out, ", ")
}

func confinement(l *list, c *container.Config) {
	s := &c.Security
	if s.Seccomp == container.SeccompUnconfined {
		l.add("container.seccomp", High, "all system calls of the kernel are open to it", "leave out seccomp=unconfined; `containr seccomp profile record` makes a profile for what it needs")
	}
	if s.AppArmor == container.AppArmorUnconfined {
		l.add("container.apparmor", Warn, "it runs without an AppArmor profile", "leave out apparmor=unconfined")
	}
	if slices.Contains(s.Labels, container.LabelDisable) {
		l.add("container.label", Warn, "it runs without an SELinux label of containers", "leave out label=disable")
	}
	if s.SystemPaths == container.SystemPathsUnconfined {
		l.add("container.systempaths", High, "it may write to the kernel's files in /proc and /sys", "leave out systempaths=unconfined")
	}
}

func namespaces(l *list, n *container.Namespaces) {
	const host = "host"
	for _, ns := range []struct{ value, flag, why string }{
		{n.Network, "--network", "it has the host's network: its loopback services and abstract sockets, and it may listen at all ports"},
		{n.PID, "--pid", "it sees the host's processes, and may signal those of its users"},
		{n.IPC, "--ipc", "it shares memory with the host's programs"},
		{n.UTS, "--uts", "it has the host's name"},
		{n.Cgroup, "--cgroupns", "it sees the host's control groups"},
	} {
		if ns.value != host {
			continue
		}
		level, mend := High, "leave out "+ns.flag+" host"
		switch ns.flag {
		case "--uts":
			level = Warn
		case "--cgroupns": // which is what it has by itself with version 1
			level, mend = Note, "--cgroupns private"
		}
		l.add("container.namespace-"+strings.TrimPrefix(ns.flag, "--"), level, ns.why, mend)
	}
}

// hostPath is a path of the host that a container has, and how to name it to who made the container.
type hostPath struct {
	container.Mount
	flag string
}

// mountsOf are the host's paths that a container has, those that volumes stand for included.
func mountsOf(r *container.Record) []hostPath {
	var binds []hostPath
	for _, m := range r.Config.Mounts {
		switch m.Type {
		case container.MountBind:
			binds = append(binds, hostPath{m, "-v " + filepath.Clean(m.Source)})
		case container.MountVolume:
			if source, ok := boundElsewhere(r, m); ok {
				flag := "-v " + m.Source
				m.Source = source
				binds = append(binds, hostPath{m, flag})
			}
		}
	}
	return binds
}

// boundElsewhere is the directory that a volume with o=bind stands for.
func boundElsewhere(r *container.Record, m container.Mount) (string, bool) {
	if r.Spec == nil {
		return "", false
	}
	for _, s := range r.Spec.Mounts {
		if s.Destination == m.Target && (slices.Contains(s.Options, "bind") || slices.Contains(s.Options, "rbind")) {
			return s.Source, !strings.HasSuffix(s.Source, "/volumes/"+m.Source+"/data")
		}
	}
	return "", false
}

// sensitive are paths of the host that are as good as the host; below says that so is all that they hold, written that it is
// where it can be written.
var sensitive = []struct {
	path           string
	below, written bool
	why            string
}{
	{"/", false, false, "all of the host"},
	{"/etc", true, false, "the host's users, passwords and services"},
	{"/root", true, false, "root's files and keys"},
	{"/boot", true, false, "the host's kernel"},
	{"/dev", true, false, "the host's devices"},
	{"/proc", true, false, "the host's processes and settings"},
	{"/sys", true, false, "the host's hardware and settings"},
	{"/var", false, false, "the host's services"},
	{"/var/lib", false, false, "the host's services"},
	{"/var/lib/containr", true, false, "all containers"},
	{"/var/lib/docker", true, false, "docker's containers"},
	{"/run", false, false, "the sockets of the host's services"},
	{"/var/run", false, false, "the sockets of the host's services"},
	{"/usr", false, true, "the host's programs"},
	{"/bin", false, true, "the host's programs"},
	{"/sbin", false, true, "the host's programs"},
	{"/lib", false, true, "the host's programs"},
	{"/lib64", false, true, "the host's programs"},
	{"/var/spool/cron", true, false, "what the host runs by itself, as any of its users"},
	{"/var/spool", false, false, "what the host runs by itself, as any of its users"},
	{"/home", false, false, "all users' files"},
}

// engineSockets are root by another name.
var engineSockets = []string{"docker.sock", "podman.sock", "containerd.sock", "crio.sock", "containrd.sock"}

// checkMount says what is weak in a mount of a path of the host, and reports whether the path is one that it knows.
func checkMount(l *list, m hostPath, path string) bool {
	path = filepath.Clean(path)
	if m.Propagation == "shared" || m.Propagation == "rshared" {
		if path == filepath.Clean(m.Source) { // it is said once
			l.add("container.propagation", Warn, "what it mounts below "+m.Target+" appears on the host", "leave out rshared")
		}
	}
	if slices.Contains(engineSockets, filepath.Base(path)) {
		l.add("container.socket", High, "through "+path+" it can start containers with all rights", "leave out "+m.flag)
		return true
	}
	for _, s := range sensitive {
		below := s.below || s.written && !m.ReadOnly
		if path != s.path && (!below || !strings.HasPrefix(path, s.path+"/")) {
			continue
		}
		level, mend := High, "leave out "+m.flag
		if path == "/etc/localtime" || path == "/etc/timezone" {
			return true
		}
		if m.ReadOnly {
			level = Warn
		} else if path != s.path {
			level, mend = Warn, "add :ro to "+m.flag+", or leave it out"
		}
		l.add("container.mount", level, path+" of the host is in it at "+m.Target+": "+s.why, mend)
		return true
	}
	return false
}

func limits(l *list, c *container.Config) {
	if c.Resources.Memory == 0 {
		l.add("container.memory", Warn, "it may use all memory of the host", "-m SIZE, such as -m 512m")
	}
	if c.Resources.Pids <= 0 {
		l.add("container.pids", Warn, "it may fill the host with processes", "--pids-limit NUMBER, such as 200")
	}
	if !c.ReadOnly {
		l.add("container.rootfs", Note, "it may change its programs: who breaks in can stay", "--read-only, and --tmpfs for what it writes")
	}
}

func user(l *list, r *container.Record, ordinary bool) {
	if r.Spec == nil || r.Spec.Process == nil || ordinary || r.Spec.Process.User.UID != 0 {
		return
	}
	if r.Spec.Linux != nil && slices.ContainsFunc(r.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace }) {
		return
	}
	l.add("container.user", Warn, "it runs as root, which is root of the host if it gets out", "--user NAME, or --userns auto")
}

func exposure(l *list, r *container.Record) {
	for _, p := range append(slices.Clone(r.Published), r.Config.Ports...) {
		if p.HostPort > 0 && p.HostPort < 1024 && p.HostPort != 80 && p.HostPort != 443 {
			l.add("container.port", Note, fmt.Sprintf("it serves the host's port %d, where services of the host's own are expected", p.HostPort), fmt.Sprintf("-p 8%03d:%d", p.HostPort, p.Port))
			break
		}
	}
	if r.Check == nil && r.Config.Restart.Wanted() {
		l.add("container.health", Note, "nobody notices that it hangs: it has no health check", "--health-cmd COMMAND")
	}
	if names := secretNames(r); len(names) > 0 {
		l.add("container.environment", Warn, "passwords seem to be in its environment, where its record and all that it starts have them: "+strings.Join(names, ", "), "--secret NAME")
	}
}

// secretWords are in names of variables that hold what is not for everybody.
var secretWords = []string{"PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "APIKEY", "PRIVATE_KEY", "ACCESS_KEY", "CREDENTIAL"}

// secretNames are the names of variables that seem to hold secrets themselves, and not the path of a file with one.
func secretNames(r *container.Record) []string {
	env := r.Config.Env
	if r.Spec != nil && r.Spec.Process != nil {
		env = r.Spec.Process.Env
	}
	var names []string
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		upper := strings.ToUpper(name)
		holds := slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(upper, w) })
		if holds && value != "" && !strings.HasSuffix(upper, "_FILE") && !strings.HasSuffix(upper, "_PATH") {
			names = append(names, name)
		}
	}
	return names
}
