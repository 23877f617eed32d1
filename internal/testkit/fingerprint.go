package testkit

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Tree says all that a user could tell about a directory tree: for each path below its root ("." is the root
// itself) one line with type, mode, owner, modification time, device number, link target, content hash, extended
// attributes and hard links. Two trees are equal when their maps are.
type Tree map[string]string

// Fingerprint reads the tree at dir. It follows no symbolic link and does not cross into other file systems mounted
// below. Access times are left out, because reading changes them.
func Fingerprint(t testing.TB, dir string) Tree {
	t.Helper()
	tree, err := fingerprint(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func fingerprint(dir string) (Tree, error) {
	tree := Tree{}
	first := map[uint64]string{} // inode to the path that it was first seen at
	var dev uint64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if rel == "." {
			dev = uint64(st.Dev)
		}
		line, err := describe(path, st)
		if err != nil {
			return err
		}
		if d.IsDir() {
			tree[rel] = line
			if uint64(st.Dev) != dev {
				tree[rel] += " other-filesystem"
				return fs.SkipDir
			}
			return nil
		}
		if twin, ok := first[st.Ino]; ok {
			line += " same-file-as=" + twin
		}
		if st.Nlink > 1 {
			line += fmt.Sprintf(" links=%d", st.Nlink)
			first[st.Ino] = rel
		}
		tree[rel] = line
		return nil
	})
	return tree, err
}

// describe makes the line of one file but for its hard links.
func describe(path string, st unix.Stat_t) (string, error) {
	var b strings.Builder
	mtime := time.Unix(st.Mtim.Unix()).UTC().Format(time.RFC3339Nano)
	fmt.Fprintf(&b, "mode=%06o owner=%d:%d mtime=%s", st.Mode, st.Uid, st.Gid, mtime)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		sum, err := contentHash(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " size=%d sha256=%s", st.Size, sum)
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " target=%q", target)
	case unix.S_IFCHR, unix.S_IFBLK:
		fmt.Fprintf(&b, " device=%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	}
	attrs, err := xattrs(path)
	if err != nil {
		return "", fmt.Errorf("extended attributes of %s: %w", path, err)
	}
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		fmt.Fprintf(&b, " %s=%q", name, attrs[name])
	}
	return b.String(), nil
}

func contentHash(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(b)), nil
}

// xattrs reads the extended attributes that the caller may see. A file system without any has none.
func xattrs(path string) (map[string]string, error) {
	size, err := unix.Llistxattr(path, nil)
	if err == unix.ENOTSUP || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]byte, size)
	if size, err = unix.Llistxattr(path, names); err != nil {
		return nil, err
	}
	out := map[string]string{}
	if size == 0 {
		return out, nil // overlayfs counts the names that it hides, until it has to list them
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:size]), "\x00"), "\x00") {
		buf := make([]byte, 65536) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(path, name, buf)
		if err != nil {
			return nil, err
		}
		out[name] = string(buf[:n])
	}
	return out, nil
}

// Diff lists what changed from a to b, sorted by path: "- path line" was lost, "+ path line" is new; a change is both.
func (a Tree) Diff(b Tree) []string {
	all := map[string]bool{}
	for p := range a {
		all[p] = true
	}
	for p := range b {
		all[p] = true
	}
	var out []string
	for _, p := range slices.Sorted(maps.Keys(all)) {
		before, was := a[p]
		after, is := b[p]
		if was && before != after {
			out = append(out, "- "+p+" "+before)
		}
		if is && before != after {
			out = append(out, "+ "+p+" "+after)
		}
	}
	return out
}
