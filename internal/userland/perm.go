package userland

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// statOf is the kernel's answer behind a FileInfo. On Linux there always is one.
func statOf(info fs.FileInfo) *syscall.Stat_t { return info.Sys().(*syscall.Stat_t) }

func runChmod(p *Proc) error {
	recursive := p.Bool("recursive", "R", "and everything below")
	reference := p.String("reference", "", "", "use the mode of this `FILE`")
	verbose := p.Bool("verbose", "v", "name every file, with its new mode")
	changes := p.Bool("changes", "c", "name what changes")
	p.Bool("silent", "f", "accepted; failures are always told")
	p.minusMode()
	operands, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	mode := ""
	if *reference != "" {
		info, err := os.Stat(*reference)
		if err != nil {
			return err
		}
		mode = strconv.FormatUint(uint64(statOf(info).Mode&0o7777), 8)
	} else {
		mode, operands = operands[0], operands[1:]
	}
	if len(operands) == 0 {
		return Usagef("missing operand")
	}
	if _, err := applyMode(mode, 0, false, 0); err != nil {
		return err
	}
	p.eachPath(operands, *recursive, func(path string, link bool) error {
		if link && *recursive {
			return nil
		}
		before := modeOf(path)
		err := changeMode(path, mode)
		if after := modeOf(path); err == nil && (*verbose || *changes && after != before) {
			fmt.Fprintf(p.Out, "mode of '%s' is %04o (%s)\n", path, after, modeString(after)[1:])
		}
		return err
	})
	return nil
}

// modeOf are the permissions of a file, 0 if it cannot be asked.
func modeOf(path string) uint32 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return statOf(info).Mode & 0o7777
}

// minusMode protects a mode such as -x from being read as a flag.
func (p *Proc) minusMode() {
	for i, a := range p.Args {
		if len(a) > 1 && a[0] == '-' && strings.Trim(a[1:], "rwxXst") == "" {
			p.Args = append(append([]string{}, p.Args[:i]...), append([]string{"--"}, p.Args[i:]...)...)
			return
		}
	}
}

// eachPath calls do for every path, and with recursive for everything below. Symbolic links are not followed on the
// way down.
func (p *Proc) eachPath(paths []string, recursive bool, do func(path string, link bool) error) {
	for _, root := range paths {
		if !recursive {
			if err := do(root, isLink(root)); err != nil {
				p.Warn(err)
			}
			continue
		}
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil {
				err = do(path, d.Type()&fs.ModeSymlink != 0)
			}
			if err != nil {
				p.Warn(err)
			}
			return nil
		})
	}
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// changeMode applies a mode, octal or symbolic, to a file.
func changeMode(path, mode string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return pathError("stat", path, err)
	}
	bits, err := applyMode(mode, st.Mode&0o7777, st.Mode&unix.S_IFMT == unix.S_IFDIR, umask())
	if err != nil {
		return err
	}
	return pathError("chmod", path, unix.Chmod(path, bits))
}

// umask is the process's umask. Reading it is writing it.
func umask() uint32 {
	old := unix.Umask(0)
	unix.Umask(old)
	return uint32(old)
}

// applyMode returns what a mode string makes of the bits old: an octal number, or clauses such as u+x,go-w,a=rX.
// A clause without who is masked by the umask, as POSIX chmod has it.
func applyMode(mode string, old uint32, dir bool, mask uint32) (uint32, error) {
	if n, err := strconv.ParseUint(mode, 8, 32); err == nil && n <= 0o7777 {
		return uint32(n), nil
	}
	bits := old
	for clause := range strings.SplitSeq(mode, ",") {
		next, err := applyClause(clause, bits, dir, mask)
		if err != nil {
			return 0, fmt.Errorf("invalid mode %q", mode)
		}
		bits = next
	}
	return bits, nil
}

var errClause = errors.New("invalid clause")

func applyClause(clause string, bits uint32, dir bool, mask uint32) (uint32, error) {
	rest := strings.TrimLeft(clause, "ugoa")
	who, keep := whoBits(clause[:len(clause)-len(rest)]), ^uint32(0)
	if who == 0 {
		who, keep = 0o7777, ^mask
	}
	if rest == "" {
		return 0, errClause
	}
	for rest != "" {
		op := rest[0]
		end := strings.IndexAny(rest[1:], "+-=") + 1
		if end == 0 {
			end = len(rest)
		}
		perms, err := permBits(rest[1:end], bits, dir)
		if err != nil {
			return 0, err
		}
		perms &= who & keep
		switch op {
		case '+':
			bits |= perms
		case '-':
			bits &^= perms
		case '=':
			bits = bits&^(who&0o7777) | perms
		default:
			return 0, errClause
		}
		rest = rest[end:]
	}
	return bits, nil
}

// whoBits are the bits that u, g, o and a may touch; the set-id bits belong to user and group, the sticky bit to all.
func whoBits(who string) uint32 {
	bits := uint32(0)
	for _, c := range who {
		bits |= map[rune]uint32{'u': 0o4700, 'g': 0o2070, 'o': 0o1007, 'a': 0o7777}[c]
	}
	return bits
}

// permBits are the bits that the letters after the operator mean, for everybody.
func permBits(perms string, old uint32, dir bool) (uint32, error) {
	bits := uint32(0)
	for _, c := range perms {
		switch c {
		case 'r':
			bits |= 0o444
		case 'w':
			bits |= 0o222
		case 'x':
			bits |= 0o111
		case 'X':
			if dir || old&0o111 != 0 {
				bits |= 0o111
			}
		case 's':
			bits |= 0o6000
		case 't':
			bits |= 0o1000
		case 'u':
			bits |= old >> 6 & 7 * 0o111
		case 'g':
			bits |= old >> 3 & 7 * 0o111
		case 'o':
			bits |= old & 7 * 0o111
		default:
			return 0, errClause
		}
	}
	return bits, nil
}

func runChown(p *Proc) error { return p.changeOwner(parseOwner) }

func runChgrp(p *Proc) error {
	return p.changeOwner(func(group string) (int, int, error) { return parseOwner(":" + group) })
}

func (p *Proc) changeOwner(parse func(string) (uid, gid int, err error)) error {
	recursive := p.Bool("recursive", "R", "and everything below")
	noDeref := p.Bool("no-dereference", "h", "change a symbolic link itself")
	reference := p.String("reference", "", "", "use the owner of this `FILE`")
	verbose := p.Bool("verbose", "v", "name every file")
	p.Bool("silent", "f", "accepted; failures are always told")
	operands, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	uid, gid := -1, -1
	if *reference != "" {
		info, err := os.Stat(*reference)
		if err != nil {
			return err
		}
		uid, gid = int(statOf(info).Uid), int(statOf(info).Gid)
	} else {
		if uid, gid, err = parse(operands[0]); err != nil {
			return err
		}
		operands = operands[1:]
	}
	if len(operands) == 0 {
		return Usagef("missing operand")
	}
	p.eachPath(operands, *recursive, func(path string, link bool) error {
		change := os.Chown
		if *noDeref || link && *recursive {
			change = os.Lchown
		}
		err := change(path, uid, gid)
		if err == nil && *verbose {
			fmt.Fprintf(p.Out, "owner of '%s' is set\n", path)
		}
		return err
	})
	return nil
}

// parseOwner reads USER, USER:GROUP, USER: (the user's own group) or :GROUP, each a name or a number. -1 means that it
// stays as it is.
func parseOwner(owner string) (uid, gid int, err error) {
	uid, gid = -1, -1
	user, group, hasGroup := strings.Cut(owner, ":")
	if user != "" {
		if uid, err = lookupUser(user); err != nil {
			return 0, 0, err
		}
	}
	switch {
	case group != "":
		gid, err = lookupGroup(group)
	case hasGroup && user != "":
		gid, err = primaryGroup(uid)
	}
	return uid, gid, err
}
