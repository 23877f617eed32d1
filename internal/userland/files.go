package userland

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func runRm(p *Proc) error {
	recursive := p.Bool("recursive", "r", "remove directories and what is in them")
	upper := p.Bool("Recursive", "R", "the same as -r")
	force := p.Bool("force", "f", "do not complain about what does not exist")
	verbose := p.Bool("verbose", "v", "name what is removed")
	dirs := p.Bool("dir", "d", "remove empty directories")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	if len(names) == 0 && !*force {
		return Usagef("missing operand")
	}
	for _, name := range names {
		err := remove(name, *recursive || *upper, *dirs)
		switch {
		case err == nil && *verbose:
			fmt.Fprintf(p.Out, "removed '%s'\n", name)
		case err != nil && !(*force && errors.Is(err, fs.ErrNotExist)):
			p.Warn(err)
		}
	}
	return nil
}

// remove deletes one operand of rm. It refuses "." and "..", and the root, as POSIX asks.
func remove(name string, recursive, dirs bool) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	base := filepath.Base(name)
	switch {
	case base == "." || base == ".." || filepath.Clean(name) == "/":
		return fmt.Errorf("%s: refusing to remove it", name)
	case !info.IsDir():
		return os.Remove(name)
	case recursive:
		return os.RemoveAll(strings.TrimRight(name, "/"))
	case dirs:
		return os.Remove(name)
	}
	return &fs.PathError{Op: "remove", Path: name, Err: unix.EISDIR}
}

func runMkdir(p *Proc) error {
	parents := p.Bool("parents", "p", "make parents as needed; an existing directory is fine")
	mode := p.String("mode", "m", "", "permissions of the new directory, as for chmod")
	verbose := p.Bool("verbose", "v", "name what is made")
	names, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	for _, name := range names {
		missing := !isDir(name, true)
		if err := makeDir(name, *parents, *mode); err != nil {
			p.Warn(err)
		} else if *verbose && missing {
			fmt.Fprintf(p.Out, "made '%s'\n", name)
		}
	}
	return nil
}

func makeDir(name string, parents bool, mode string) error {
	var err error
	if parents {
		err = os.MkdirAll(name, 0o777)
	} else {
		err = os.Mkdir(name, 0o777)
	}
	if err != nil || mode == "" {
		return err
	}
	return changeMode(name, mode)
}

func runRmdir(p *Proc) error {
	parents := p.Bool("parents", "p", "then remove its parents that are empty")
	names, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	for _, name := range names {
		for dir := name; ; dir = filepath.Dir(dir) {
			if err := unix.Rmdir(dir); err != nil {
				p.Warn(&fs.PathError{Op: "rmdir", Path: dir, Err: err})
				break
			}
			if up := filepath.Dir(dir); !*parents || up == "." || up == "/" {
				break
			}
		}
	}
	return nil
}

func runLn(p *Proc) error {
	symbolic := p.Bool("symbolic", "s", "make symbolic links")
	force := p.Bool("force", "f", "replace what exists")
	noDeref := p.Bool("no-dereference", "n", "treat a link to a directory as a file")
	verbose := p.Bool("verbose", "v", "name what is linked")
	names, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	targets, dest := names[:max(1, len(names)-1)], "."
	if len(names) > 1 {
		dest = names[len(names)-1]
	}
	into := isDir(dest, !*noDeref)
	if len(targets) > 1 && !into {
		return fmt.Errorf("%s: %w", dest, unix.ENOTDIR)
	}
	link := os.Link
	if *symbolic {
		link = os.Symlink
	}
	for _, target := range targets {
		name := dest
		if into {
			name = filepath.Join(dest, filepath.Base(target))
		}
		if *force {
			os.Remove(name)
		}
		if err := link(target, name); err != nil {
			p.Warn(err)
		} else if *verbose {
			fmt.Fprintf(p.Out, "'%s' -> '%s'\n", name, target)
		}
	}
	return nil
}

// isDir says whether name is a directory, or, if follow is set, a symbolic link to one.
func isDir(name string, follow bool) bool {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	info, err := stat(name)
	return err == nil && info.IsDir()
}

func runTouch(p *Proc) error {
	noCreate := p.Bool("no-create", "c", "do not make files")
	access := p.Bool("access", "a", "change the access time only")
	modified := p.Bool("modified", "m", "change the modification time only")
	reference := p.String("reference", "r", "", "take the times of this `FILE`")
	date := p.String("date", "d", "", "set this `TIME` (as date prints it, RFC 3339, or @SECONDS)")
	stamp := p.String("stamp", "t", "", "set this `TIME`: [[CC]YY]MMDDhhmm[.ss]")
	link := p.Bool("no-dereference", "h", "change a symbolic link itself")
	names, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	if *stamp != "" {
		t, err := parseStamp(*stamp)
		if err != nil {
			return err
		}
		*date = "@" + strconv.FormatInt(t.Unix(), 10)
	}
	times, err := touchTimes(*reference, *date)
	if err != nil {
		return err
	}
	flags := 0
	if *link {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	if *access && !*modified {
		times[1] = omit
	}
	if *modified && !*access {
		times[0] = omit
	}
	for _, name := range names {
		if err := touch(name, times, flags, !*noCreate && !*link); err != nil {
			p.Warn(err)
		}
	}
	return nil
}

// touchTimes is the access and modification time that touch sets: now, a file's, or a stated one.
func touchTimes(reference, date string) ([]unix.Timespec, error) {
	switch {
	case reference != "":
		var st unix.Stat_t
		if err := unix.Stat(reference, &st); err != nil {
			return nil, &fs.PathError{Op: "stat", Path: reference, Err: err}
		}
		return []unix.Timespec{st.Atim, st.Mtim}, nil
	case date != "":
		t, err := parseTime(date)
		if err != nil {
			return nil, err
		}
		ts := unix.NsecToTimespec(t.UnixNano())
		return []unix.Timespec{ts, ts}, nil
	}
	now := unix.Timespec{Nsec: unix.UTIME_NOW}
	return []unix.Timespec{now, now}, nil
}

// parseStamp reads the time of touch -t.
func parseStamp(s string) (time.Time, error) {
	for _, form := range []string{"200601021504.05", "200601021504", "0601021504.05", "0601021504", "01021504.05", "01021504"} {
		t, err := time.ParseInLocation(form, s, time.Local)
		if err != nil {
			continue
		}
		if t.Year() == 0 {
			t = t.AddDate(time.Now().Year(), 0, 0)
		}
		return t, nil
	}
	return time.Time{}, fmt.Errorf("invalid time %q", s)
}

func touch(name string, times []unix.Timespec, flags int, create bool) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, name, times, flags)
	if err == unix.ENOENT && !create {
		return nil
	}
	if err == unix.ENOENT {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o666)
		if err != nil {
			return err
		}
		f.Close()
		err = unix.UtimesNanoAt(unix.AT_FDCWD, name, times, 0)
		return pathError("touch", name, err)
	}
	return pathError("touch", name, err)
}

// pathError is nil for nil, otherwise err with the path it is about.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// parseTime reads the forms of time that touch and date accept.
func parseTime(s string) (time.Time, error) {
	if seconds, ok := strings.CutPrefix(s, "@"); ok {
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("invalid time %q", s)
		}
		return time.Unix(n, 0), nil
	}
	forms := []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02", "15:04:05", "15:04", time.UnixDate, time.RFC1123Z}
	for _, form := range forms {
		t, err := time.ParseInLocation(form, s, time.Local)
		if err != nil {
			continue
		}
		if t.Year() == 0 {
			now := time.Now()
			t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.Local)
		}
		return t, nil
	}
	return time.Time{}, fmt.Errorf("invalid time %q", s)
}

func runMktemp(p *Proc) error {
	directory := p.Bool("directory", "d", "make a directory")
	dry := p.Bool("dry-run", "u", "only print a name")
	parent := p.String("tmpdir", "p", "", "make it in this `DIR`")
	inTmp := p.Bool("t", "t", "make it in $TMPDIR or /tmp")
	operands, err := p.Parse(0, 1)
	if err != nil {
		return err
	}
	template := "tmp.XXXXXXXXXX"
	if len(operands) == 1 {
		template = operands[0]
	}
	if *parent == "" && (len(operands) == 0 || *inTmp) {
		*parent = os.TempDir()
	}
	prefix := strings.TrimRight(template, "X")
	length := len(template) - len(prefix)
	if length < 3 {
		return fmt.Errorf("%q: too few X's at the end", template)
	}
	for range 100 {
		name := filepath.Join(*parent, prefix+rand.Text()[:min(length, 26)])
		err = makeTemp(name, *directory, *dry)
		if err == nil {
			fmt.Fprintln(p.Out, name)
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return err
}

// makeTemp makes a file or directory that only its owner may use. The name must be new.
func makeTemp(name string, directory, dry bool) error {
	switch {
	case dry:
		return nil
	case directory:
		return os.Mkdir(name, 0o700)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func runTruncate(p *Proc) error {
	size := p.String("size", "s", "", "set the size: `N` with suffix K, M, G; +N and -N are relative")
	noCreate := p.Bool("no-create", "c", "do not make files")
	names, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	n, err := parseSize(strings.TrimLeft(*size, "+-"))
	if err != nil {
		return Usagef("invalid size %q", *size)
	}
	for _, name := range names {
		create := os.O_CREATE
		if *noCreate {
			create = 0
		}
		f, err := os.OpenFile(name, os.O_WRONLY|create, 0o666)
		if *noCreate && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			p.Warn(err)
			continue
		}
		target := n
		if info, err := f.Stat(); err == nil && (*size)[0] == '+' {
			target = info.Size() + n
		} else if err == nil && (*size)[0] == '-' {
			target = max(0, info.Size()-n)
		}
		if err := f.Truncate(target); err != nil {
			p.Warn(err)
		}
		f.Close()
	}
	return nil
}

// parseSize reads a number of bytes with an optional suffix of powers of 1024: k, M, G, T, also written KiB or kB.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "bBiIkKmMgGtT")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("invalid size %q", s)
	}
	suffix := strings.ToLower(s[len(digits):])
	switch strings.TrimSuffix(strings.TrimSuffix(suffix, "b"), "i") {
	case "":
		if suffix == "b" {
			return n * 512, nil
		}
		return n, nil
	case "k":
		return n << 10, nil
	case "m":
		return n << 20, nil
	case "g":
		return n << 30, nil
	case "t":
		return n << 40, nil
	}
	return 0, fmt.Errorf("invalid size %q", s)
}

func runSync(p *Proc) error {
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		unix.Sync()
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			p.Warn(err)
		}
	}
	return nil
}

// runLink and runUnlink are the system calls, without the questions that ln and rm ask.
func runLink(p *Proc) error {
	names, err := p.Parse(2, 2)
	if err != nil {
		return err
	}
	return os.Link(names[0], names[1])
}

func runUnlink(p *Proc) error {
	names, err := p.Parse(1, 1)
	if err != nil {
		return err
	}
	return pathError("unlink", names[0], unix.Unlink(names[0]))
}

func runMkfifo(p *Proc) error {
	mode := p.String("mode", "m", "", "permissions, as for chmod")
	names, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := pathError("mkfifo", name, unix.Mkfifo(name, 0o666))
		if err == nil && *mode != "" {
			err = changeMode(name, *mode)
		}
		if err != nil {
			p.Warn(err)
		}
	}
	return nil
}

func runMknod(p *Proc) error {
	mode := p.String("mode", "m", "", "permissions, as for chmod")
	operands, err := p.Parse(2, 4)
	if err != nil {
		return err
	}
	kind, ok := map[string]uint32{"b": unix.S_IFBLK, "c": unix.S_IFCHR, "u": unix.S_IFCHR, "p": unix.S_IFIFO}[operands[1]]
	if !ok {
		return Usagef("invalid type %q: it is one of b, c, p", operands[1])
	}
	var dev uint64
	if kind != unix.S_IFIFO {
		if len(operands) != 4 {
			return Usagef("a device needs a major and a minor number")
		}
		major, err1 := strconv.ParseUint(operands[2], 0, 32)
		minor, err2 := strconv.ParseUint(operands[3], 0, 32)
		if err1 != nil || err2 != nil {
			return Usagef("invalid device number %s:%s", operands[2], operands[3])
		}
		dev = unix.Mkdev(uint32(major), uint32(minor))
	}
	if err := unix.Mknod(operands[0], kind|0o666, int(dev)); err != nil {
		return pathError("mknod", operands[0], err)
	}
	if *mode != "" {
		return changeMode(operands[0], *mode)
	}
	return nil
}
