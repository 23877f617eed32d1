package userland

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func runStat(p *Proc) error {
	format := p.String("format", "c", "", "print this `FORMAT`: %n name, %s size, %a %A mode, %u %g %U %G owner, %i inode, %h links, %F type, %Y %y mtime, %X %x atime, %Z %z ctime, %b blocks, %t %T device, %d filesystem, %m mount")
	follow := p.Bool("dereference", "L", "follow symbolic links")
	files, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	for _, name := range files {
		stat := os.Lstat
		if *follow {
			stat = os.Stat
		}
		info, err := stat(name)
		if err != nil {
			p.Warn(err)
			continue
		}
		st := statOf(info)
		if *format != "" {
			fmt.Fprintln(p.Out, statFormat(*format, name, st))
			continue
		}
		shown := name
		if target, err := os.Readlink(name); err == nil && !*follow {
			shown += " -> " + target
		}
		fmt.Fprintf(p.Out, "  File: %s\n", shown)
		fmt.Fprintln(p.Out, statFormat("  Size: %s\tBlocks: %b\tIO Block: %o\t%F\nDevice: %d\tInode: %i\tLinks: %h", name, st))
		fmt.Fprintln(p.Out, statFormat("Access: (%#a/%A)  Uid: (%u/%U)   Gid: (%g/%G)\nAccess: %x\nModify: %y\nChange: %z", name, st))
	}
	return nil
}

// statFormat expands the % sequences of stat -c.
func statFormat(format, name string, st *syscall.Stat_t) string {
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		if format[i] == '#' && i+1 < len(format) && format[i+1] == 'a' {
			i++
			fmt.Fprintf(&out, "%04o", st.Mode&0o7777)
			continue
		}
		out.WriteString(statField(format[i], name, st))
	}
	return out.String()
}

func statField(verb byte, name string, st *syscall.Stat_t) string {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	switch verb {
	case 'n':
		return name
	case 's':
		return strconv.FormatInt(st.Size, 10)
	case 'a':
		return strconv.FormatUint(uint64(st.Mode&0o7777), 8)
	case 'f':
		return strconv.FormatUint(uint64(st.Mode), 16)
	case 'A':
		return modeString(st.Mode)
	case 'u':
		return number(uint64(st.Uid))
	case 'g':
		return number(uint64(st.Gid))
	case 'U':
		return nameOr(names(passwdFile), int(st.Uid))
	case 'G':
		return nameOr(names(groupFile), int(st.Gid))
	case 'i':
		return number(st.Ino)
	case 'h':
		return number(uint64(st.Nlink))
	case 'b':
		return strconv.FormatInt(st.Blocks, 10)
	case 'o':
		return strconv.FormatInt(int64(st.Blksize), 10)
	case 'd':
		return fmt.Sprintf("%d,%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	case 't':
		return strconv.FormatUint(uint64(unix.Major(uint64(st.Rdev))), 16)
	case 'T':
		return strconv.FormatUint(uint64(unix.Minor(uint64(st.Rdev))), 16)
	case 'F':
		return typeName(st)
	case '%':
		return "%"
	}
	return statTime(verb, st)
}

func statTime(verb byte, st *syscall.Stat_t) string {
	times := map[byte]syscall.Timespec{'x': st.Atim, 'y': st.Mtim, 'z': st.Ctim, 'X': st.Atim, 'Y': st.Mtim, 'Z': st.Ctim}
	ts, ok := times[verb]
	switch {
	case !ok:
		return "?"
	case verb < 'a':
		return strconv.FormatInt(int64(ts.Sec), 10)
	}
	return time.Unix(int64(ts.Sec), int64(ts.Nsec)).Format("2006-01-02 15:04:05.000000000 -0700")
}

func typeName(st *syscall.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFCHR:
		return "character special file"
	case unix.S_IFBLK:
		return "block special file"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	if st.Size == 0 {
		return "regular empty file"
	}
	return "regular file"
}

func runReadlink(p *Proc) error {
	canonical := p.Bool("canonicalize", "f", "follow every link and print the absolute name")
	noNewline := p.Bool("no-newline", "n", "no newline at the end")
	files, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	for _, name := range files {
		read := os.Readlink
		if *canonical {
			read = realPath
		}
		target, err := read(name)
		if err != nil {
			p.status = 1 // POSIX readlink prints nothing for what is no link
			continue
		}
		fmt.Fprint(p.Out, target)
		if !*noNewline {
			fmt.Fprintln(p.Out)
		}
	}
	return nil
}

// realPath is the absolute name without links. Its last component need not exist.
func realPath(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	path, err := filepath.EvalSymlinks(abs)
	if os.IsNotExist(err) && !isLink(abs) {
		dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
		return filepath.Join(dir, filepath.Base(abs)), err
	}
	return path, err
}

func runRealpath(p *Proc) error {
	exist := p.Bool("canonicalize-existing", "e", "every component must exist")
	files, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	for _, name := range files {
		path, err := realPath(name)
		if err == nil && *exist {
			_, err = os.Stat(path)
		}
		if err != nil {
			p.Warn(err)
			continue
		}
		fmt.Fprintln(p.Out, path)
	}
	return nil
}

func runBasename(p *Proc) error {
	all := p.Bool("multiple", "a", "every operand is a name")
	suffix := p.String("suffix", "s", "", "cut this `SUFFIX` off every name")
	operands, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	if !*all && *suffix == "" {
		if len(operands) > 2 {
			return Usagef("extra operand %q", operands[2])
		}
		if len(operands) == 2 {
			*suffix = operands[1]
		}
		operands = operands[:1]
	}
	for _, name := range operands {
		base := filepath.Base(name)
		if cut := strings.TrimSuffix(base, *suffix); cut != "" {
			base = cut
		}
		fmt.Fprintln(p.Out, base)
	}
	return nil
}

func runDirname(p *Proc) error {
	operands, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	for _, name := range operands {
		trimmed := strings.TrimRight(name, "/")
		if trimmed == "" && name != "" {
			trimmed = "/"
		}
		fmt.Fprintln(p.Out, filepath.Dir(trimmed))
	}
	return nil
}

func runPwd(p *Proc) error {
	logical := p.Bool("logical", "L", "take $PWD if it names this directory")
	p.Bool("physical", "P", "without symbolic links (the default)")
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	dir, err := unix.Getwd()
	if *logical {
		dir, err = os.Getwd()
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(p.Out, dir)
	return nil
}
