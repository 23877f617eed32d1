package hardening

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containr/containr/internal/doctor"
)

// ProbeHost looks at what counts beyond what the doctor has looked at; configs are files of defaults. It changes nothing, and
// what cannot be found out is left out.
func ProbeHost(m *doctor.Machine, configs []string) *Host {
	h := &Host{Machine: m, Vulnerabilities: map[string]string{}, Sysctls: map[string]string{}}
	found, _ := filepath.Glob("/sys/devices/system/cpu/vulnerabilities/*") // a pattern that is well formed
	for _, path := range found {
		h.Vulnerabilities[filepath.Base(path)] = read(path)
	}
	names := []string{"kernel.unprivileged_userns_clone", "kernel.apparmor_restrict_unprivileged_userns"}
	for _, s := range sysctls {
		names = append(names, s.name)
	}
	for _, name := range names {
		if text := read("/proc/sys/" + strings.ReplaceAll(name, ".", "/")); text != "" {
			h.Sysctls[name] = text
		}
	}
	// The one in force is in brackets.
	if _, rest, ok := strings.Cut(read("/sys/kernel/security/lockdown"), "["); ok {
		h.Lockdown, _, _ = strings.Cut(rest, "]")
	}
	h.look(StateRoot, m.Storage.Root)
	h.look(Defaults, configs...)
	h.look(SubIDs, "/etc/subuid", "/etc/subgid")
	h.look(Socket, "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock")
	h.look(Devices, "/dev/mem", "/dev/kmem", "/dev/port")
	return h
}

func (h *Host) look(kind FileKind, paths ...string) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			continue // it is not there, or not for us to see
		}
		f := File{Path: path, Kind: kind, Mode: info.Mode()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			f.UID = st.Uid
		}
		h.Files = append(h.Files, f)
	}
}

func read(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
