package snapshot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fingerprint describes everything below dir that a container can see: a line
// for each name. Hard links are told by the first name of the same file.
func fingerprint(dir string) (map[string]string, error) {
	all := map[string]string{}
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		all[name], err = describe(path, name, first)
		return err
	})
	return all, err
}

// fingerprintOf is fingerprint that must succeed.
func fingerprintOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	all, err := fingerprint(dir)
	if err != nil {
		t.Fatalf("fingerprint of %s: %v", dir, err)
	}
	return all
}

func describe(path, name string, first map[uint64]string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	s := fmt.Sprintf("%06o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		s += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		s += " -> " + target
	case unix.S_IFCHR, unix.S_IFBLK:
		s += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if f, ok := first[st.Ino]; ok {
			s += " = " + f
		} else {
			first[st.Ino] = name
		}
	}
	attrs, err := attributes(path)
	return s + attrs, err
}

// attributes lists extended attributes but those of overlayfs.
func attributes(path string) (string, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		if errors.Is(err, unix.ENOTSUP) {
			return "", nil
		}
		return "", err
	}
	names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
	sort.Strings(names)
	var s string
	for _, name := range names {
		if foreign(name) {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", err
		}
		s += fmt.Sprintf(" %s=%q", name, value[:n])
	}
	return s, nil
}

// diff returns the lines in which two fingerprints differ.
func diff(want, got map[string]string) string {
	var b strings.Builder
	for name, line := range want {
		if got[name] != line {
			fmt.Fprintf(&b, "%s:\n  want %s\n   got %s\n", name, line, got[name])
		}
	}
	for name, line := range got {
		if _, ok := want[name]; !ok {
			fmt.Fprintf(&b, "%s:\n  want nothing\n   got %s\n", name, line)
		}
	}
	return b.String()
}

// needRoot skips a test that only root can do.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: sets owners, makes devices and trusted attributes, mounts")
	}
}

// inMountNamespace runs f in a thread with a mount namespace of its own, which
// ends with f.
func inMountNamespace(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// mount does what a Mount says, by mount(2), at target.
func (m Mount) mount(target string) error {
	for _, i := range m.Images {
		if err := unix.Mount(i.File, i.Dir, ErofsType, unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("mount image %s: %w", i.File, err)
		}
	}
	var flags uintptr
	var data []string
	for _, o := range m.Options {
		switch o {
		case "bind":
			flags |= unix.MS_BIND
		case "ro":
			flags |= unix.MS_RDONLY
		case "rw":
		default:
			data = append(data, o)
		}
	}
	if m.Dir != "" {
		if err := unix.Chdir(m.Dir); err != nil {
			return err
		}
	}
	err := unix.Mount(m.Source, target, m.Type, flags, strings.Join(data, ","))
	if err == nil && flags&unix.MS_BIND != 0 && flags&unix.MS_RDONLY != 0 {
		err = unix.Mount("", target, "", flags|unix.MS_REMOUNT, "")
	}
	if err != nil {
		return fmt.Errorf("mount %+v: %w", m, err)
	}
	return nil
}

// mounted returns the fingerprint of what chain looks like when it is mounted
// for writing.
func mounted(t testing.TB, s *Store, chain ChainID) map[string]string {
	t.Helper()
	base := t.TempDir()
	mounts, err := s.Prepare(t.Context(), chain, base+"/upper", base+"/work")
	if err != nil {
		t.Fatal(err)
	}
	return look(t, mounts)
}

// viewed is mounted for the read-only view.
func viewed(t testing.TB, s *Store, chain ChainID) map[string]string {
	t.Helper()
	mounts, err := s.View(t.Context(), chain)
	if err != nil {
		t.Fatal(err)
	}
	return look(t, mounts)
}

func look(t testing.TB, mounts []Mount) (tree map[string]string) {
	t.Helper()
	target := t.TempDir()
	inMountNamespace(t, func() (err error) {
		for _, m := range mounts {
			if err := m.mount(target); err != nil {
				return err
			}
		}
		defer unix.Unmount(target, unix.MNT_DETACH)
		tree, err = fingerprint(target)
		return err
	})
	return tree
}
