package userland

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mounted is one line of /proc/self/mountinfo (proc(5)).
type mounted struct {
	source, point, root, kind string
	device                    string // major:minor
	options                   string // of the mount, then of the file system
}

// mounts reads the mounts that this process sees, in the order in which they were made.
func mounts() ([]mounted, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []mounted
	for line := range strings.Lines(string(text)) {
		left, right, _ := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) < 6 || len(r) < 3 {
			return nil, fmt.Errorf("/proc/self/mountinfo: unexpected line %q", line)
		}
		all = append(all, mounted{source: unmangle(r[1]), root: unmangle(l[3]), point: unmangle(l[4]), kind: r[0], device: l[2], options: mergeOptions(l[5], r[2])})
	}
	return all, nil
}

// mergeOptions joins the options of the mount and of its file system; what both say is said once.
func mergeOptions(mount, super string) string {
	all := strings.Split(mount, ",")
	for o := range strings.SplitSeq(super, ",") {
		if o != "rw" && o != "ro" && !slices.Contains(all, o) {
			all = append(all, o)
		}
	}
	return strings.Join(all, ",")
}

// unmangle undoes the octal escapes that the kernel uses for blanks and backslashes.
func unmangle(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// mountFlags are the options that mount(2) takes as flags; a false means that the option clears the flag.
func mountFlags() map[string]struct {
	flag uintptr
	set  bool
} {
	type f = struct {
		flag uintptr
		set  bool
	}
	return map[string]f{
		"ro": {unix.MS_RDONLY, true}, "rw": {unix.MS_RDONLY, false}, "nosuid": {unix.MS_NOSUID, true}, "suid": {unix.MS_NOSUID, false},
		"nodev": {unix.MS_NODEV, true}, "dev": {unix.MS_NODEV, false}, "noexec": {unix.MS_NOEXEC, true}, "exec": {unix.MS_NOEXEC, false},
		"sync": {unix.MS_SYNCHRONOUS, true}, "remount": {unix.MS_REMOUNT, true}, "bind": {unix.MS_BIND, true}, "rbind": {unix.MS_BIND | unix.MS_REC, true},
		"noatime": {unix.MS_NOATIME, true}, "relatime": {unix.MS_RELATIME, true}, "nodiratime": {unix.MS_NODIRATIME, true},
		"private": {unix.MS_PRIVATE, true}, "rprivate": {unix.MS_PRIVATE | unix.MS_REC, true}, "shared": {unix.MS_SHARED, true},
		"rshared": {unix.MS_SHARED | unix.MS_REC, true}, "slave": {unix.MS_SLAVE, true}, "rslave": {unix.MS_SLAVE | unix.MS_REC, true},
		"unbindable": {unix.MS_UNBINDABLE, true}, "move": {unix.MS_MOVE, true}, "defaults": {0, true},
	}
}

func runMount(p *Proc) error {
	kind := p.String("types", "t", "", "the file system's `TYPE`")
	options := p.Strings("options", "o", "mount with these options (`LIST`)")
	readOnly := p.Bool("read-only", "r", "the same as -o ro")
	flags := map[string]*bool{}
	for _, name := range []string{"bind", "rbind", "move", "make-private", "make-rprivate", "make-shared", "make-rshared", "make-slave", "make-rslave"} {
		flags[name] = p.Bool(name, "", "the same as -o "+strings.TrimPrefix(name, "make-"))
	}
	p.flagSet().Lookup("bind").Shorthand = ""
	operands, err := p.Parse(0, 2)
	if err != nil {
		return err
	}
	for name, set := range flags {
		if *set {
			*options = append(*options, strings.TrimPrefix(name, "make-"))
		}
	}
	if *readOnly {
		*options = append(*options, "ro")
	}
	if len(operands) == 0 {
		return p.listMounts(*kind)
	}
	var bits uintptr
	var data []string
	known := mountFlags()
	for o := range strings.SplitSeq(strings.Join(*options, ","), ",") {
		if f, ok := known[o]; ok && f.set {
			bits |= f.flag
		} else if ok {
			bits &^= f.flag
		} else if o != "" {
			data = append(data, o)
		}
	}
	source, target := "none", operands[len(operands)-1]
	if len(operands) == 2 {
		source = operands[0]
	}
	return pathError("mount", target, unix.Mount(source, target, *kind, bits, strings.Join(data, ",")))
}

func (p *Proc) listMounts(kind string) error {
	all, err := mounts()
	for _, m := range all {
		if kind == "" || m.kind == kind {
			fmt.Fprintf(p.Out, "%s on %s type %s (%s)\n", m.source, m.point, m.kind, m.options)
		}
	}
	return err
}

func runUmount(p *Proc) error {
	lazy := p.Bool("lazy", "l", "detach now, clean up when it is no longer in use")
	force := p.Bool("force", "f", "force, for an unreachable server")
	points, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	flags := 0
	if *lazy {
		flags |= unix.MNT_DETACH
	}
	if *force {
		flags |= unix.MNT_FORCE
	}
	for _, point := range points {
		if err := unix.Unmount(point, flags); err != nil {
			p.Warn(pathError("umount", point, err))
		}
	}
	return nil
}

func runMountpoint(p *Proc) error {
	quiet := p.Bool("quiet", "q", "only answer with the status")
	paths, err := p.Parse(1, 1)
	if err != nil {
		return err
	}
	path, err := realPath(paths[0])
	if err != nil {
		return err
	}
	all, err := mounts()
	if err != nil {
		return err
	}
	word, status := "is", 0
	if !slices.ContainsFunc(all, func(m mounted) bool { return m.point == path }) {
		word, status = "is not", 1
	}
	if !*quiet {
		fmt.Fprintf(p.Out, "%s %s a mountpoint\n", paths[0], word)
	}
	p.status = status
	return nil
}

func runDf(p *Proc) error {
	human := p.Bool("human-readable", "h", "sizes in K, M, G")
	mega := p.Bool("mebi", "m", "sizes in MiB")
	p.Bool("kibi", "k", "sizes in KiB (the default)")
	p.Bool("portability", "P", "one line a file system (always so here)")
	inodes := p.Bool("inodes", "i", "show inodes, not blocks")
	withType := p.Bool("print-type", "T", "show types")
	every := p.Bool("all", "a", "also file systems without blocks")
	paths, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	all, err := mounts()
	if err != nil {
		return err
	}
	switch {
	case len(paths) > 0:
		if all, err = p.mountsOf(paths, all); err != nil {
			return err
		}
	case !*every:
		all = onceEach(all)
	}
	show := func(kib uint64) string {
		switch {
		case *inodes:
			return strconv.FormatUint(kib, 10)
		case *human:
			return humanSize(int64(kib) << 10)
		case *mega:
			return strconv.FormatUint(kib>>10, 10)
		}
		return strconv.FormatUint(kib, 10)
	}
	size := "1K-blocks"
	switch {
	case *human:
		size = "Size"
	case *mega:
		size = "1M-blocks"
	}
	header := []string{"Filesystem", "Type", size, "Used", "Available", "Use%", "Mounted on"}
	if *inodes {
		header = []string{"Filesystem", "Type", "Inodes", "IUsed", "IFree", "IUse%", "Mounted on"}
	}
	rows := [][]string{header}
	for _, m := range all {
		var st unix.Statfs_t
		if err := unix.Statfs(m.point, &st); err != nil || st.Blocks == 0 && !*every && len(paths) == 0 {
			continue
		}
		total, free, available := st.Blocks, st.Bfree, st.Bavail
		unit := uint64(st.Bsize)
		if *inodes {
			total, free, available, unit = st.Files, st.Ffree, st.Ffree, 1024
		}
		used, percent := total-free, "-"
		if used+available > 0 {
			percent = fmt.Sprintf("%d%%", (used*100+used+available-1)/(used+available))
		}
		kib := func(n uint64) string { return show(n * unit / 1024) }
		rows = append(rows, []string{m.source, m.kind, kib(total), kib(used), kib(available), percent, m.point})
	}
	if !*withType {
		for i, row := range rows {
			rows[i] = slices.Delete(slices.Clone(row), 1, 2)
		}
	}
	last := len(rows[0]) - 1
	p.table(rows, func(column int) bool { return column >= last-4 && column < last })
	return nil
}

// onceEach leaves one mount of every file system: that with the shortest name, in the place of the first. Files that are
// mounted one by one, as containers have some, would otherwise show their file system again and again.
func onceEach(all []mounted) []mounted {
	var kept []mounted
	for _, m := range all {
		i := slices.IndexFunc(kept, func(k mounted) bool { return k.device == m.device })
		switch {
		case i < 0:
			kept = append(kept, m)
		case len(m.point) < len(kept[i].point):
			kept[i] = m
		}
	}
	return kept
}

// mountsOf is, for every path, the mount that it lies on.
func (p *Proc) mountsOf(paths []string, all []mounted) ([]mounted, error) {
	var chosen []mounted
	for _, path := range paths {
		real, err := realPath(path)
		if err == nil {
			_, err = os.Stat(real)
		}
		if err != nil {
			p.Warn(err)
			continue
		}
		best := -1
		for i, m := range all { // the longest mount point wins, and of equal ones the last
			within := m.point == "/" || real == m.point || strings.HasPrefix(real, m.point+"/")
			if within && (best < 0 || len(m.point) >= len(all[best].point)) {
				best = i
			}
		}
		if best >= 0 {
			chosen = append(chosen, all[best])
		}
	}
	return chosen, nil
}

// usage is what du was asked for.
type usage struct {
	p        *Proc
	all      bool
	summary  bool
	apparent bool
	oneFS    bool
	maxDepth int
	show     func(bytes int64) string
	seen     map[[2]uint64]bool // device and inode of files with several links
}

func runDu(p *Proc) error {
	u := usage{p: p, seen: map[[2]uint64]bool{}}
	flags := p.flagSet()
	flags.BoolVarP(&u.all, "all", "a", false, "show files, not only directories")
	flags.BoolVarP(&u.summary, "summarize", "s", false, "show only the operands")
	flags.BoolVarP(&u.apparent, "apparent-size", "", false, "count the length of files, not the space that they take")
	flags.BoolVarP(&u.oneFS, "one-file-system", "x", false, "stay on one file system")
	flags.IntVarP(&u.maxDepth, "max-depth", "d", 1<<30, "show at most `N` levels")
	human := p.Bool("human-readable", "h", "sizes in K, M, G")
	mega := p.Bool("mebi", "m", "sizes in MiB")
	p.Bool("kibi", "k", "sizes in KiB (the default)")
	inBytes := p.Bool("bytes", "b", "the same as --apparent-size, in bytes")
	total := p.Bool("total", "c", "show the sum of all operands")
	paths, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	if u.summary {
		u.maxDepth = 0
	}
	u.apparent = u.apparent || *inBytes
	unit := int64(1024)
	switch {
	case *inBytes:
		unit = 1
	case *mega:
		unit = 1 << 20
	}
	u.show = func(n int64) string { return strconv.FormatInt((n+unit-1)/unit, 10) }
	if *human {
		u.show = humanSize
	}
	sum := int64(0)
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil {
			p.Warn(err)
			continue
		}
		sum += u.count(path, info, statOf(info).Dev, 0)
	}
	if *total {
		fmt.Fprintf(p.Out, "%s\ttotal\n", u.show(sum))
	}
	return nil
}

// count returns the size of a file or of a directory with everything below, and prints what was asked for. A file with
// several names is counted once.
func (u *usage) count(path string, info fs.FileInfo, dev uint64, depth int) int64 {
	st := statOf(info)
	if st.Nlink > 1 && !info.IsDir() {
		key := [2]uint64{st.Dev, st.Ino}
		if u.seen[key] {
			return 0
		}
		u.seen[key] = true
	}
	if u.oneFS && st.Dev != dev {
		return 0
	}
	size := st.Blocks * 512
	if u.apparent {
		size = st.Size
	}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			u.p.Warn(err)
		}
		for _, e := range entries {
			if child, err := e.Info(); err == nil {
				size += u.count(filepath.Join(path, e.Name()), child, dev, depth+1)
			}
		}
	}
	if depth == 0 || depth <= u.maxDepth && (info.IsDir() || u.all) {
		fmt.Fprintf(u.p.Out, "%s\t%s\n", u.show(size), path)
	}
	return size
}

func runDd(p *Proc) error {
	words := map[string]string{"bs": "512", "count": "", "skip": "0", "seek": "0", "if": "", "of": "", "conv": "", "status": "", "iflag": "", "ibs": "", "obs": ""}
	for _, arg := range p.Args {
		name, value, ok := strings.Cut(arg, "=")
		if _, known := words[name]; !ok || !known {
			return Usagef("unknown operand %q", arg)
		}
		words[name] = value
	}
	for _, o := range []struct{ name, known string }{
		{"conv", "notrunc fsync sync ucase lcase"}, {"iflag", "fullblock"}, {"status", "none noxfer progress"},
	} {
		for word := range strings.SplitSeq(words[o.name], ",") {
			if word != "" && !slices.Contains(strings.Fields(o.known), word) {
				return Usagef("%s=%s: unknown; it is one of %s", o.name, word, o.known)
			}
		}
	}
	words["ibs"], words["obs"] = cmp.Or(words["ibs"], words["bs"]), cmp.Or(words["obs"], words["bs"])
	numbers := map[string]int64{}
	for _, name := range []string{"ibs", "obs", "count", "skip", "seek"} {
		if words[name] == "" {
			numbers[name] = -1
			continue
		}
		n, err := parseSize(words[name])
		if err != nil {
			return Usagef("%s=%s: not a number", name, words[name])
		}
		numbers[name] = n
	}
	bs := numbers["ibs"]
	if bs <= 0 || bs > 1<<30 {
		return Usagef("bs=%s: must be from 1 to 1G", words["ibs"])
	}
	in, out, err := p.ddFiles(words, numbers["seek"]*numbers["obs"])
	if err != nil {
		return err
	}
	if numbers["skip"] > 0 {
		if err := skipBytes(in, numbers["skip"]*bs); err != nil {
			return err
		}
	}
	return p.ddCopy(in, out, bs, numbers["count"], words)
}

// ddFiles opens input and output. The output is cut at the offset unless conv=notrunc.
func (p *Proc) ddFiles(words map[string]string, seek int64) (io.Reader, io.Writer, error) {
	var in io.Reader = p.Stdin
	var out io.Writer = p.stdout
	if words["if"] != "" {
		f, err := os.Open(words["if"])
		if err != nil {
			return nil, nil, err
		}
		in = f
	}
	if words["of"] == "" {
		return in, out, nil
	}
	f, err := os.OpenFile(words["of"], os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && !strings.Contains(words["conv"], "notrunc") {
		err = f.Truncate(seek)
	}
	if err == nil && seek > 0 {
		_, err = f.Seek(seek, io.SeekStart)
	}
	return in, f, err
}

func skipBytes(in io.Reader, n int64) error {
	if s, ok := in.(io.Seeker); ok {
		if _, err := s.Seek(n, io.SeekCurrent); err == nil {
			return nil
		}
	}
	_, err := io.CopyN(io.Discard, in, n)
	return notEOF(err)
}

// convert does what conv= asks for to the n bytes of a block.
func convert(block []byte, n int, conv string) []byte {
	out := block[:n]
	for word := range strings.SplitSeq(conv, ",") {
		switch word {
		case "ucase":
			out = bytes.ToUpper(out)
		case "lcase":
			out = bytes.ToLower(out)
		case "sync": // short blocks are filled up with zeros
			clear(block[n:])
			out = append(out, block[n:]...)
		}
	}
	return out
}

func (p *Proc) ddCopy(in io.Reader, out io.Writer, bs, count int64, words map[string]string) error {
	start, buf := time.Now(), make([]byte, bs)
	var full, partial, total int64 // blocks written whole, blocks written short, bytes
	read := in.Read
	if strings.Contains(words["iflag"], "fullblock") {
		read = func(b []byte) (int, error) { return io.ReadFull(in, b) }
	}
	var failed error
	for count < 0 || full+partial < count {
		n, err := read(buf)
		if n > 0 {
			written, writeErr := out.Write(convert(buf, n, words["conv"]))
			total += int64(written)
			if writeErr != nil {
				failed = writeErr
				break
			}
			if int64(n) == bs {
				full++
			} else {
				partial++
			}
		}
		if err != nil {
			if err != io.ErrUnexpectedEOF {
				failed = notEOF(err)
			}
			break
		}
	}
	if f, ok := out.(*os.File); ok && strings.Contains(words["conv"], "fsync") && failed == nil {
		failed = f.Sync()
	}
	if words["status"] != "none" {
		seconds := time.Since(start).Seconds()
		fmt.Fprintf(p.Stderr, "%d+%d records in\n%d+%d records out\n", full, partial, full, partial)
		if words["status"] != "noxfer" {
			fmt.Fprintf(p.Stderr, "%d bytes copied, %.6f s, %s/s\n", total, seconds, humanSize(int64(float64(total)/max(seconds, 1e-9))))
		}
	}
	return failed
}
