package userland

import (
	"cmp"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listing is what ls was asked for.
type listing struct {
	all, almostAll, long, one, numeric, human, recursive, classify, inode, blocks, dirs bool
	byTime, bySize, byVersion, byExtension, unsorted, reverse, fullTime                 bool
	follow, slash, columns, accessTime, changeTime                                      bool

	users, groups map[int]string
	width         int // of the terminal, 0 if the output is not one
	now           time.Time
}

// listed is one line of a listing.
type listed struct {
	name   string
	path   string
	st     *syscall.Stat_t
	mode   fs.FileMode
	target string // of a symbolic link
}

func runLs(p *Proc) error {
	var l listing
	flags := p.flagSet()
	flags.BoolVarP(&l.all, "all", "a", false, "show names that begin with a dot")
	flags.BoolVarP(&l.almostAll, "almost-all", "A", false, "the same, but not . and ..")
	flags.BoolVarP(&l.long, "long", "l", false, "show type, permissions, links, owner, size and time")
	flags.BoolVarP(&l.one, "one", "1", false, "one name a line")
	flags.BoolVarP(&l.dirs, "directory", "d", false, "show directories, not what is in them")
	flags.BoolVarP(&l.numeric, "numeric-uid-gid", "n", false, "the same as -l with ids in place of names")
	flags.BoolVarP(&l.human, "human-readable", "h", false, "sizes in K, M, G")
	flags.BoolVarP(&l.inode, "inode", "i", false, "show inode numbers")
	flags.BoolVarP(&l.blocks, "size", "s", false, "show allocated kilobytes")
	flags.BoolVarP(&l.classify, "classify", "F", false, "mark types: / directory, * program, @ link, | pipe, = socket")
	flags.BoolVarP(&l.recursive, "recursive", "R", false, "and everything below")
	flags.BoolVarP(&l.byTime, "time", "t", false, "newest first")
	flags.BoolVarP(&l.bySize, "by-size", "S", false, "largest first")
	flags.BoolVarP(&l.byVersion, "by-version", "v", false, "compare numbers in names as numbers")
	flags.BoolVarP(&l.byExtension, "by-extension", "X", false, "by what follows the last dot")
	flags.BoolVarP(&l.accessTime, "access", "u", false, "show and sort by the time of last access")
	flags.BoolVarP(&l.changeTime, "change", "c", false, "show and sort by the time of the last change of the inode")
	flags.BoolVarP(&l.follow, "dereference", "L", false, "show what symbolic links point to")
	flags.BoolVarP(&l.slash, "slash", "p", false, "mark directories with /")
	flags.BoolVarP(&l.columns, "columns", "C", false, "in columns, also where the output is no terminal")
	flags.BoolVarP(&l.unsorted, "unsorted", "U", false, "in the order of the directory")
	flags.BoolVarP(&l.reverse, "reverse", "r", false, "reverse the order")
	flags.BoolVar(&l.fullTime, "full-time", false, "the same as -l with full times")
	p.String("color", "", "never", "accepted for scripts; output is never coloured (`WHEN`)")
	flags.Lookup("color").NoOptDefVal = "auto"
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	l.prepare(p)
	if len(names) == 0 {
		names = []string{"."}
	}
	l.show(p, names)
	return nil
}

// prepare looks up what the listing needs once.
func (l *listing) prepare(p *Proc) {
	l.long = l.long || l.numeric || l.fullTime
	l.now = time.Now()
	if l.long && !l.numeric {
		l.users, l.groups = names(passwdFile), names(groupFile)
	}
	if ws, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ); err == nil {
		l.width = max(int(ws.Col), 40)
	} else if l.columns {
		l.width = 80
	}
}

// show lists the operands: files first, then each directory.
func (l *listing) show(p *Proc, names []string) {
	var files, dirs []listed
	for _, name := range names {
		e, err := l.entry(name, name)
		if err != nil {
			p.Warn(err)
			continue
		}
		// Without -l a link to a directory that is an operand is followed.
		if !l.dirs && (e.mode.IsDir() || !l.long && isDir(name, true)) {
			dirs = append(dirs, e)
		} else {
			files = append(files, e)
		}
	}
	l.print(p, files)
	for i, dir := range dirs {
		if len(names) > 1 || l.recursive {
			if i > 0 || len(files) > 0 {
				fmt.Fprintln(p.Out)
			}
			fmt.Fprintf(p.Out, "%s:\n", dir.name)
		}
		l.showDir(p, dir.path)
	}
}

func (l *listing) showDir(p *Proc, dir string) {
	read, err := os.ReadDir(dir)
	if err != nil {
		p.Warn(err)
	}
	var entries []listed
	add := func(name string) {
		e, err := l.entry(name, strings.TrimSuffix(dir, "/")+"/"+name)
		if err != nil {
			p.Warn(err)
			return
		}
		entries = append(entries, e)
	}
	if l.all {
		add(".")
		add("..")
	}
	for _, e := range read {
		if l.all || l.almostAll || !strings.HasPrefix(e.Name(), ".") {
			add(e.Name())
		}
	}
	if l.long || l.blocks {
		blocks := int64(0)
		for _, e := range entries {
			blocks += e.st.Blocks
		}
		fmt.Fprintf(p.Out, "total %d\n", blocks/2)
	}
	l.print(p, entries)
	for _, e := range entries {
		if l.recursive && e.mode.IsDir() && e.name != "." && e.name != ".." {
			fmt.Fprintf(p.Out, "\n%s:\n", e.path)
			l.showDir(p, e.path)
		}
	}
}

// entry asks for one file. A symbolic link is shown, not followed, unless all are to be.
func (l *listing) entry(name, path string) (listed, error) {
	info, err := os.Lstat(path)
	if l.follow {
		if target, followed := os.Stat(path); followed == nil {
			info, err = target, nil
		}
	}
	if err != nil {
		return listed{}, err
	}
	e := listed{name: name, path: path, st: statOf(info), mode: info.Mode()}
	if l.long && e.mode&fs.ModeSymlink != 0 {
		e.target, _ = os.Readlink(path)
	}
	return e, nil
}

func (l *listing) print(p *Proc, entries []listed) {
	if !l.unsorted {
		slices.SortStableFunc(entries, l.compare)
	}
	if l.reverse {
		slices.Reverse(entries)
	}
	if l.long {
		l.printLong(p, entries)
		return
	}
	cells := make([]string, len(entries))
	for i, e := range entries {
		cells[i] = l.prefix(e) + e.name + l.mark(e)
	}
	width := l.width
	if l.one {
		width = 0
	}
	printCells(p, cells, width)
}

func (l *listing) compare(a, b listed) int {
	if l.byTime {
		if c := l.time(b).Compare(l.time(a)); c != 0 {
			return c
		}
	}
	if l.bySize && a.st.Size != b.st.Size {
		return cmp.Compare(b.st.Size, a.st.Size)
	}
	if l.byExtension {
		if c := cmp.Compare(filepath.Ext(a.name), filepath.Ext(b.name)); c != 0 {
			return c
		}
	}
	if l.byVersion {
		return compareVersions(a.name, b.name)
	}
	return cmp.Compare(a.name, b.name)
}

// time is the one of a file's three times that is shown, and sorted by.
func (l *listing) time(e listed) time.Time {
	switch {
	case l.accessTime:
		return time.Unix(int64(e.st.Atim.Sec), int64(e.st.Atim.Nsec))
	case l.changeTime:
		return time.Unix(int64(e.st.Ctim.Sec), int64(e.st.Ctim.Nsec))
	}
	return mtime(e.st)
}

func mtime(st *syscall.Stat_t) time.Time { return time.Unix(int64(st.Mtim.Sec), int64(st.Mtim.Nsec)) }

// printCells prints names in columns that fit the width, or one a line if the width is 0.
func printCells(p *Proc, cells []string, width int) {
	longest := 0
	for _, c := range cells {
		longest = max(longest, len([]rune(c)))
	}
	columns := max(1, width/(longest+2))
	if width == 0 {
		columns = 1
	}
	rows := (len(cells) + columns - 1) / columns
	for row := range rows {
		line := ""
		for i := row; i < len(cells); i += rows {
			pad := longest + 2 - len([]rune(cells[i]))
			line += cells[i] + strings.Repeat(" ", pad)
		}
		fmt.Fprintln(p.Out, strings.TrimRight(line, " "))
	}
}

// printLong prints the long form, with every column as wide as its widest cell.
func (l *listing) printLong(p *Proc, entries []listed) {
	rows := make([][]string, len(entries))
	var widths [5]int
	for i, e := range entries {
		rows[i] = l.row(e)
		for column, cell := range rows[i][:5] {
			widths[column] = max(widths[column], len(cell))
		}
	}
	for i, r := range rows {
		fmt.Fprintf(p.Out, "%s%s %*s %-*s %-*s %*s %s %s\n", l.prefix(entries[i]), r[0],
			widths[1], r[1], widths[2], r[2], widths[3], r[3], widths[4], r[4], r[5], r[6])
	}
}

// row is one line of the long form: mode, links, owner, group, size or device, time, name.
func (l *listing) row(e listed) []string {
	size := strconv.FormatInt(e.st.Size, 10)
	switch {
	case e.mode&fs.ModeDevice != 0:
		size = fmt.Sprintf("%d, %d", unix.Major(uint64(e.st.Rdev)), unix.Minor(uint64(e.st.Rdev)))
	case l.human:
		size = humanSize(e.st.Size)
	}
	name := e.name + l.mark(e)
	if e.target != "" {
		name = e.name + " -> " + e.target
	}
	return []string{modeString(e.st.Mode), strconv.FormatUint(uint64(e.st.Nlink), 10),
		nameOr(l.users, int(e.st.Uid)), nameOr(l.groups, int(e.st.Gid)), size, l.timeString(l.time(e)), name}
}

// timeString shows the time of day for the last half year and the year otherwise, as POSIX has it.
func (l *listing) timeString(t time.Time) string {
	switch age := l.now.Sub(t); {
	case l.fullTime:
		return t.Format("2006-01-02 15:04:05.000000000 -0700")
	case age < 0 || age > 183*24*time.Hour:
		return t.Format("Jan _2  2006")
	}
	return t.Format("Jan _2 15:04")
}

func (l *listing) prefix(e listed) string {
	s := ""
	if l.inode {
		s += fmt.Sprintf("%8d ", e.st.Ino)
	}
	if l.blocks {
		s += fmt.Sprintf("%6d ", e.st.Blocks/2)
	}
	return s
}

func (l *listing) mark(e listed) string {
	switch {
	case e.mode.IsDir() && (l.classify || l.slash):
		return "/"
	case !l.classify:
		return ""
	case e.mode&fs.ModeSymlink != 0:
		return "@"
	case e.mode&fs.ModeNamedPipe != 0:
		return "|"
	case e.mode&fs.ModeSocket != 0:
		return "="
	case e.mode&0o111 != 0:
		return "*"
	}
	return ""
}

// modeString is the type and permission column of ls, from the kernel's st_mode: "drwxr-xr-t".
func modeString(mode uint32) string {
	kinds := map[uint32]byte{unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFCHR: 'c', unix.S_IFBLK: 'b', unix.S_IFIFO: 'p', unix.S_IFSOCK: 's'}
	out := []byte("-rwxrwxrwx")
	if kind, ok := kinds[mode&unix.S_IFMT]; ok {
		out[0] = kind
	}
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			out[i+1] = '-'
		}
	}
	special := func(bit uint32, at int, with, without byte) {
		if mode&bit == 0 {
			return
		}
		if out[at] == 'x' {
			out[at] = with
		} else {
			out[at] = without
		}
	}
	special(unix.S_ISUID, 3, 's', 'S')
	special(unix.S_ISGID, 6, 's', 'S')
	special(unix.S_ISVTX, 9, 't', 'T')
	return string(out)
}

// humanSize is a size in powers of 1024 with at most four characters: 0, 512, 1.5K, 12M. It rounds up, as ls and df do.
func humanSize(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10)
	}
	value, unit := float64(n), -1
	for value >= 1024 && unit < 5 {
		value /= 1024
		unit++
	}
	if value < 10 {
		tenths := int64(math.Ceil(value * 10))
		if tenths < 100 {
			return fmt.Sprintf("%d.%d%c", tenths/10, tenths%10, "KMGTPE"[unit])
		}
	}
	whole := int64(math.Ceil(value))
	if whole == 1024 && unit < 5 {
		return fmt.Sprintf("1.0%c", "KMGTPE"[unit+1])
	}
	return fmt.Sprintf("%d%c", whole, "KMGTPE"[unit])
}
