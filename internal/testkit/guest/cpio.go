package guest

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cpioWriter writes the "newc" archive that the kernel unpacks into its first root file system; see
// Documentation/driver-api/early-userspace/buffer-format.rst. All files belong to root. The first error sticks.
type cpioWriter struct {
	w    *bufio.Writer
	size int64
	ino  int
	dirs map[string]bool
	err  error
}

func newCpio(w io.Writer) *cpioWriter {
	return &cpioWriter{w: bufio.NewWriterSize(w, 1<<20), dirs: map[string]bool{"/": true, ".": true}}
}

// entry writes a header, the name and the content, each padded to four bytes.
func (c *cpioWriter) entry(name string, mode uint32, uid, gid int, dev uint64, content string) {
	if c.err != nil {
		return
	}
	name = strings.TrimPrefix(name, "/")
	c.ino++
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", c.ino, mode, uid, gid, 1, 0,
		len(content), 0, 0, unix.Major(dev), unix.Minor(dev), len(name)+1, 0)
	c.padded(head + name + "\x00")
	c.padded(content)
}

func (c *cpioWriter) padded(s string) {
	n, err := c.w.WriteString(s)
	c.size += int64(n)
	for err == nil && c.size%4 != 0 {
		err = c.w.WriteByte(0)
		c.size++
	}
	if err != nil && c.err == nil {
		c.err = err
	}
}

// parents makes the directories above name that are not there yet.
func (c *cpioWriter) parents(name string) {
	dir := path.Dir(path.Join("/", name))
	if c.dirs[dir] {
		return
	}
	c.parents(dir)
	c.dir(dir, 0o755)
}

func (c *cpioWriter) dir(name string, mode uint32) {
	if name = path.Join("/", name); c.dirs[name] {
		return
	}
	c.parents(name)
	c.dirs[name] = true
	c.entry(name, unix.S_IFDIR|mode, 0, 0, 0, "")
}

func (c *cpioWriter) file(name string, mode uint32, content string) {
	c.parents(name)
	c.entry(name, unix.S_IFREG|mode, 0, 0, 0, content)
}

func (c *cpioWriter) symlink(name, target string) {
	c.parents(name)
	c.entry(name, unix.S_IFLNK|0o777, 0, 0, 0, target)
}

// tree copies a file or a directory tree of the host to name, with modes and owners. Hard links become copies,
// extended attributes are lost (the format has neither), sockets are left out. The top may be a symbolic link.
func (c *cpioWriter) tree(name, host string) {
	host, err := filepath.EvalSymlinks(host)
	if err == nil {
		err = filepath.WalkDir(host, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(host, p)
			return c.copy(path.Join("/", name, rel), p)
		})
	}
	if err != nil && c.err == nil {
		c.err = err
	}
}

// copy writes one file of the host, whatever its type.
func (c *cpioWriter) copy(name, host string) error {
	var st unix.Stat_t
	if err := unix.Lstat(host, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: host, Err: err}
	}
	c.parents(name)
	content := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(host)
		if err != nil {
			return err
		}
		content = string(b)
	case unix.S_IFLNK:
		target, err := os.Readlink(host)
		if err != nil {
			return err
		}
		content = target
	case unix.S_IFDIR:
		if c.dirs[name] {
			return nil
		}
		c.dirs[name] = true
	case unix.S_IFSOCK:
		return nil
	}
	c.entry(name, st.Mode, int(st.Uid), int(st.Gid), uint64(st.Rdev), content)
	return c.err
}

// close writes the trailer.
func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, 0, 0, 0, "")
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}
