package userland

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// copying is what cp was asked for.
type copying struct {
	recursive bool                        // -r: directories too
	preserve  bool                        // -p: mode, owner, times
	follow    bool                        // follow symbolic links found in operands
	force     bool                        // -f: remove a destination that cannot be opened
	noClobber bool                        // -n: leave existing files alone
	update    bool                        // -u: leave files alone that are as new
	link      func(src, dst string) error // -l and -s: in place of a copy; else nil
	ask       func(name string) bool
	report    func(src, dst string)
}

func runCp(p *Proc) error {
	archive := p.Bool("archive", "a", "the same as -r -p -P")
	recursive := p.Bool("recursive", "r", "copy directories and what is in them")
	upper := p.Bool("Recursive", "R", "the same as -r")
	preserve := p.Bool("preserve", "p", "keep mode, owner and times")
	noDeref := p.Bool("no-dereference", "P", "copy symbolic links as links (with -r the default)")
	links := p.Bool("links", "d", "the same as -P")
	hard := p.Bool("link", "l", "make hard links in place of copies")
	symbolic := p.Bool("symbolic-link", "s", "make symbolic links in place of copies")
	update := p.Bool("update", "u", "leave files alone that are not older")
	into := p.String("target-directory", "t", "", "copy into this `DIR`")
	deref := p.Bool("dereference", "L", "copy what symbolic links point to")
	force := p.Bool("force", "f", "replace a file that cannot be written")
	noClobber := p.Bool("no-clobber", "n", "leave existing files alone")
	interactive := p.Bool("interactive", "i", "ask before overwriting")
	verbose := p.Bool("verbose", "v", "name what is copied")
	noTarget := p.Bool("no-target-directory", "T", "treat the destination as a file")
	names, err := p.parseTargets(into)
	if err != nil {
		return err
	}
	c := copying{
		update:    *update,
		recursive: *recursive || *upper || *archive, preserve: *preserve || *archive,
		force: *force, noClobber: *noClobber,
		ask: p.confirm("overwrite", *interactive), report: p.reporter(*verbose),
	}
	switch {
	case *hard:
		c.link = os.Link
	case *symbolic:
		c.link = os.Symlink
	}
	c.follow = *deref || !(c.recursive || *noDeref || *links)
	return p.eachTarget(names, *noTarget, c.copy)
}

func runMv(p *Proc) error {
	force := p.Bool("force", "f", "do not ask")
	noClobber := p.Bool("no-clobber", "n", "leave existing files alone")
	interactive := p.Bool("interactive", "i", "ask before overwriting")
	verbose := p.Bool("verbose", "v", "name what is moved")
	noTarget := p.Bool("no-target-directory", "T", "treat the destination as a file")
	update := p.Bool("update", "u", "leave files alone that are not older")
	into := p.String("target-directory", "t", "", "move into this `DIR`")
	names, err := p.parseTargets(into)
	if err != nil {
		return err
	}
	ask, report := p.confirm("overwrite", *interactive && !*force), p.reporter(*verbose)
	return p.eachTarget(names, *noTarget, func(src, dst string) error {
		if old, err := os.Lstat(dst); err == nil && (*noClobber || *update && !isOlder(old, src) || !ask(dst)) {
			return nil
		}
		err := os.Rename(src, dst)
		if errors.Is(err, unix.EXDEV) {
			err = moveAcross(src, dst)
		}
		if err == nil {
			report(src, dst)
		}
		return err
	})
}

// parseTargets reads sources and a destination. The directory of -t becomes the last name.
func (p *Proc) parseTargets(into *string) ([]string, error) {
	names, err := p.Parse(1, -1)
	switch {
	case err != nil:
		return nil, err
	case *into != "" && !isDir(*into, true):
		return nil, fmt.Errorf("%s: %w", *into, unix.ENOTDIR)
	case *into != "":
		return append(names, *into), nil
	case len(names) < 2:
		return nil, Usagef("missing operand")
	}
	return names, nil
}

// isOlder says whether a file is older than another one.
func isOlder(old fs.FileInfo, than string) bool {
	info, err := os.Stat(than)
	return err != nil || old.ModTime().Before(info.ModTime())
}

// moveAcross moves between file systems: it copies everything, and only then removes the source.
func moveAcross(src, dst string) error {
	if info, err := os.Lstat(dst); err == nil && !info.IsDir() {
		if err := os.Remove(dst); err != nil {
			return err
		}
	}
	c := copying{recursive: true, preserve: true, ask: func(string) bool { return true }, report: func(_, _ string) {}}
	if err := c.copy(src, dst); err != nil {
		return err
	}
	return os.RemoveAll(src)
}

// eachTarget calls do for every source with its destination: the last name, or, if that is a directory, the file of
// the same base name in it.
func (p *Proc) eachTarget(names []string, noTarget bool, do func(src, dst string) error) error {
	sources, dest := names[:len(names)-1], names[len(names)-1]
	into := !noTarget && isDir(dest, true)
	if len(sources) > 1 && !into {
		return fmt.Errorf("%s: %w", dest, unix.ENOTDIR)
	}
	for _, src := range sources {
		dst := dest
		if into {
			dst = filepath.Join(dest, filepath.Base(src))
		}
		if err := do(src, dst); err != nil {
			p.Warn(err)
		}
	}
	return nil
}

// confirm returns a function that asks the user, or one that always agrees.
func (p *Proc) confirm(verb string, interactive bool) func(string) bool {
	if !interactive {
		return func(string) bool { return true }
	}
	in := bufio.NewReader(p.Stdin)
	return func(name string) bool {
		fmt.Fprintf(p.Stderr, "%s: %s '%s'? ", p.Command.Name, verb, name)
		answer, _ := in.ReadString('\n')
		return strings.HasPrefix(strings.ToLower(answer), "y")
	}
}

func (p *Proc) reporter(verbose bool) func(src, dst string) {
	if !verbose {
		return func(_, _ string) {}
	}
	return func(src, dst string) { fmt.Fprintf(p.Out, "'%s' -> '%s'\n", src, dst) }
}

// copy copies src, whatever it is, to the name dst.
func (c *copying) copy(src, dst string) error {
	stat := os.Lstat
	if c.follow {
		stat = os.Stat
	}
	info, err := stat(src)
	if err != nil {
		return err
	}
	if old, err := os.Lstat(dst); err == nil {
		if target, err := os.Stat(dst); err == nil && os.SameFile(info, target) {
			return fmt.Errorf("'%s' and '%s' are the same file", src, dst)
		}
		if !old.IsDir() && (c.noClobber || c.update && !isOlder(old, src) || !c.ask(dst)) {
			return nil
		}
	}
	if err := c.copyAs(src, dst, info); err != nil {
		return err
	}
	c.report(src, dst)
	if c.preserve {
		return preserve(dst, info)
	}
	return nil
}

// copyAs makes dst according to the type of src.
func (c *copying) copyAs(src, dst string, info fs.FileInfo) error {
	st := statOf(info)
	switch mode := info.Mode(); {
	case mode.IsDir() && !c.recursive:
		return fmt.Errorf("%s: %w (use -r)", src, unix.EISDIR)
	case mode.IsDir():
		return c.copyDir(src, dst, info)
	case c.link != nil:
		if c.force {
			os.Remove(dst)
		}
		return c.link(src, dst)
	case mode.IsRegular():
		return c.copyFile(src, dst, info)
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		os.Remove(dst)
		return os.Symlink(target, dst)
	case !c.recursive: // a device or a pipe is read
		return c.copyFile(src, dst, info)
	}
	return pathError("mknod", dst, unix.Mknod(dst, st.Mode, int(st.Rdev)))
}

func (c *copying) copyDir(src, dst string, info fs.FileInfo) error {
	if inside(src, dst) {
		return fmt.Errorf("cannot copy '%s' into itself, '%s'", src, dst)
	}
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	// The owner needs write permission while it is filled.
	if err := os.Mkdir(dst, info.Mode().Perm()|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	var failed []error
	for _, e := range entries {
		if err := c.copy(filepath.Join(src, e.Name()), filepath.Join(dst, e.Name())); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// inside says whether dst is below src.
func inside(src, dst string) bool {
	from, err1 := filepath.Abs(src)
	to, err2 := filepath.Abs(dst)
	return err1 == nil && err2 == nil && strings.HasPrefix(to+"/", strings.TrimRight(from, "/")+"/")
}

func (c *copying) copyFile(src, dst string, info fs.FileInfo) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil && c.force {
		os.Remove(dst)
		out, err = os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// preserve gives dst the owner, the mode and the times of info. That an ordinary user may not give files away is not
// an error, as with every cp.
func preserve(dst string, info fs.FileInfo) error {
	st := statOf(info)
	if err := os.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil && os.Geteuid() == 0 {
		return err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		if err := unix.Chmod(dst, st.Mode&0o7777); err != nil {
			return pathError("chmod", dst, err)
		}
	}
	times := []unix.Timespec{{Sec: st.Atim.Sec, Nsec: st.Atim.Nsec}, {Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec}}
	return pathError("utimes", dst, unix.UtimesNanoAt(unix.AT_FDCWD, dst, times, unix.AT_SYMLINK_NOFOLLOW))
}
