// Package procfs reads what the kernel says about a process into Go values, for tests.
//
// # Theory of operation
//
// Kernel tests assert on kernel state, never on containr's own words. The kernel states it in text files below
// /proc/PID (proc(5)): mountinfo, status, cgroup, the ns links. Each reader here opens one such file, parses it in
// full and returns structs; a line that does not have the documented shape is an error, not a guess, because a test
// that silently skips a line it cannot read would pass for the wrong reason.
//
// The package depends on the standard library alone, so that the probe (the program that tests run inside a
// container) and the tests outside read the same files with the same code and can compare the results.
package procfs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Mount is one line of /proc/PID/mountinfo; see proc_pid_mountinfo(5).
type Mount struct {
	ID     int // unique among mounts that exist now; reused later
	Parent int // ID of the mount it sits on, or of itself at the top of a namespace
	Major  uint32
	Minor  uint32
	Root   string // the directory of its file system that the mount shows
	Point  string // where it is, seen from the root of the process that was read
	// Options are those of the mount (ro, nosuid, nodev, noexec, relatime ...), in the kernel's order.
	Options []string
	// Propagation holds the optional fields: shared:N, master:N, propagate_from:N, unbindable. Empty is private.
	Propagation []string
	Type        string // file system type, with subtype: "fuse.sshfs"
	Source      string
	// Super are the options of the file system itself (superblock), in the kernel's order.
	Super []string
}

// Has reports whether opt, such as "ro" or "nosuid", is one of the mount's own options.
func (m Mount) Has(opt string) bool { return slices.Contains(m.Options, opt) }

// SuperHas reports whether opt, such as "size=64k" or "xino=off", is an option of the file system.
func (m Mount) SuperHas(opt string) bool { return slices.Contains(m.Super, opt) }

// Shared reports whether mount events propagate from this mount to its peers.
func (m Mount) Shared() bool { return hasPrefix(m.Propagation, "shared:") }

// Slave reports whether mount events of a master propagate to this mount.
func (m Mount) Slave() bool { return hasPrefix(m.Propagation, "master:") }

// String prints the mount in the words a person would use: "tmpfs on /tmp type tmpfs (rw,nosuid)".
func (m Mount) String() string {
	return fmt.Sprintf("%s on %s type %s (%s) root %s %s", m.Source, m.Point, m.Type,
		strings.Join(m.Options, ","), m.Root, strings.Join(m.Propagation, " "))
}

// Mounts is a mount table in the kernel's order, which is the order of a walk from the root.
type Mounts []Mount

// At returns the topmost mount at exactly point: the last one of those stacked there.
func (ms Mounts) At(point string) (Mount, bool) {
	for i := len(ms) - 1; i >= 0; i-- {
		if ms[i].Point == point {
			return ms[i], true
		}
	}
	return Mount{}, false
}

// Mountinfo reads the mount table of the process pid; 0 is the calling process.
func Mountinfo(pid int) (Mounts, error) {
	f, err := os.Open(Path(pid, "mountinfo"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ParseMountinfo(f)
}

// ParseMountinfo reads the text of a mountinfo file.
func ParseMountinfo(r io.Reader) (Mounts, error) {
	var out Mounts
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20) // an overlay with many lower directories has long lines
	for sc.Scan() {
		m, err := parseMount(sc.Text())
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, sc.Err()
}

// parseMount takes one line apart: six fields, any number of optional ones, a lone "-", three more.
func parseMount(line string) (Mount, error) {
	bad := func(what string) (Mount, error) {
		return Mount{}, fmt.Errorf("mountinfo line %q: %s", line, what)
	}
	f := strings.Split(line, " ")
	if len(f) < 10 {
		return bad("fewer than 10 fields")
	}
	sep := 6
	for sep < len(f) && f[sep] != "-" {
		sep++
	}
	if len(f)-sep != 4 {
		return bad("not three fields after the separator")
	}
	m := Mount{
		Root: unescape(f[3]), Point: unescape(f[4]), Options: strings.Split(f[5], ","), Propagation: f[6:sep],
		Type: f[sep+1], Source: unescape(f[sep+2]), Super: strings.Split(unescape(f[sep+3]), ","),
	}
	var err error
	if m.ID, err = strconv.Atoi(f[0]); err != nil {
		return bad("mount id")
	}
	if m.Parent, err = strconv.Atoi(f[1]); err != nil {
		return bad("parent id")
	}
	if _, err := fmt.Sscanf(f[2], "%d:%d", &m.Major, &m.Minor); err != nil {
		return bad("device number")
	}
	return m, nil
}

// unescape undoes the kernel's octal escapes (\040 for a space, \134 for a backslash).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Path names a file below /proc of the process pid; 0 is the calling process.
func Path(pid int, name string) string {
	who := "self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	return filepath.Join("/proc", who, name)
}

func hasPrefix(list []string, prefix string) bool {
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}
