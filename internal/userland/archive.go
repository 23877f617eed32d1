package userland

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tarring is what tar was asked for.
type tarring struct {
	p                  *Proc
	log                io.Writer // names what goes into an archive
	verbose, toStdout  bool
	keepOld, follow    bool
	strip              int
	exclude            []string
	wanted             []string // members to extract or list; all if empty
	numeric, sameOwner bool
	root               *os.Root // where members are extracted; nothing is written outside of it
	dirTimes           []func() error
}

func runTar(p *Proc) error {
	if len(p.Args) > 0 && !strings.HasPrefix(p.Args[0], "-") { // the old form: tar xf FILE
		p.Args = append([]string{"-" + p.Args[0]}, p.Args[1:]...)
	}
	t := tarring{p: p}
	create := p.Bool("create", "c", "make an archive")
	extract := p.Bool("extract", "x", "extract from an archive")
	list := p.Bool("list", "t", "list an archive")
	file := p.String("file", "f", "-", "the archive is this `FILE`; - is standard input or output")
	zip := p.Bool("gzip", "z", "compress with gzip (reading finds out by itself)")
	p.Bool("bzip2", "j", "accepted for reading, which finds out by itself")
	p.Bool("preserve-permissions", "p", "keep permissions (always so here)")
	listFile := p.String("files-from", "T", "", "take the names in this `FILE` too, one a line")
	dir := p.String("directory", "C", ".", "work in this `DIR`")
	flags := p.flagSet()
	flags.BoolVarP(&t.verbose, "verbose", "v", false, "name the members")
	flags.BoolVarP(&t.toStdout, "to-stdout", "O", false, "extract to standard output")
	flags.BoolVarP(&t.keepOld, "keep-old-files", "k", false, "do not replace files")
	flags.BoolVarP(&t.follow, "dereference", "h", false, "store what symbolic links point to")
	flags.IntVar(&t.strip, "strip-components", 0, "leave out the first `N` components of names")
	flags.StringArrayVar(&t.exclude, "exclude", nil, "leave out names that match this `GLOB`")
	flags.BoolVar(&t.numeric, "numeric-owner", false, "owners as numbers")
	noOwner := p.Bool("no-same-owner", "", "extracted files are owned by the user")
	operands, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	t.sameOwner = os.Geteuid() == 0 && !*noOwner
	if *listFile != "" {
		err := p.withFile(*listFile, func(_ string, r io.Reader) error {
			return eachLine(r, func(name string) error { operands = append(operands, name); return nil })
		})
		if err != nil {
			return err
		}
	}
	t.wanted = operands
	switch {
	case *create && p.Flags.Changed("bzip2"):
		return errors.New("bzip2 can only be read here: use -z")
	case *create && !*extract && !*list:
		return t.create(*file, *dir, *zip, operands)
	case *extract != *list && !*create:
		return t.read(*file, *dir, *extract)
	}
	return Usagef("give exactly one of -c, -x and -t")
}

// create writes an archive of the named files.
func (t *tarring) create(file, dir string, zip bool, names []string) (err error) {
	if len(names) == 0 {
		return Usagef("an archive of nothing")
	}
	var out io.Writer = t.p.stdout
	t.log = t.p.Stderr
	if file != "-" {
		t.log = t.p.Out
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	if zip {
		z := gzip.NewWriter(out)
		defer func() { err = errors.Join(err, z.Close()) }()
		out = z
	}
	w := tar.NewWriter(out)
	seen := map[[2]uint64]string{}
	for _, name := range names {
		root := name
		if !filepath.IsAbs(name) {
			root = filepath.Join(dir, name)
		}
		walkErr := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && t.excluded(memberName(name, root, path)) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if err == nil {
				err = t.add(w, path, memberName(name, root, path), seen)
			}
			if err != nil {
				t.p.Warn(err)
			}
			return nil
		})
		if walkErr != nil {
			return walkErr
		}
	}
	return w.Close()
}

// memberName is the name in the archive of a path below root, which the user called name.
func memberName(name, root, file string) string {
	rel, err := filepath.Rel(root, file)
	if err != nil || rel == "." {
		return strings.TrimLeft(name, "/")
	}
	return strings.TrimLeft(path.Join(name, rel), "/")
}

func (t *tarring) add(w *tar.Writer, file, name string, seen map[[2]uint64]string) error {
	stat := os.Lstat
	if t.follow {
		stat = os.Stat
	}
	info, err := stat(file)
	if err != nil || name == "" {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(file); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name = name
	h.ModTime = h.ModTime.Truncate(time.Second) // the format has whole seconds, and a time must not lie in the future
	if info.IsDir() && !strings.HasSuffix(h.Name, "/") {
		h.Name += "/"
	}
	if t.numeric {
		h.Uname, h.Gname = "", ""
	}
	st := statOf(info)
	key := [2]uint64{st.Dev, st.Ino}
	if first, ok := seen[key]; ok && st.Nlink > 1 && !info.IsDir() {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
	}
	seen[key] = h.Name
	if t.verbose {
		fmt.Fprintln(t.log, h.Name)
	}
	if err := w.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// excluded says whether a name, or a directory that it is in, is not wanted.
func (t *tarring) excluded(name string) bool {
	for name = path.Clean(name); name != "." && name != "/"; name = path.Dir(name) {
		for _, glob := range t.exclude {
			whole, _ := path.Match(glob, name)
			base, _ := path.Match(glob, path.Base(name))
			if whole || base {
				return true
			}
		}
	}
	return false
}

// read lists or extracts an archive, which may be compressed.
func (t *tarring) read(file, dir string, extract bool) error {
	in := t.p.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	in, err := decompress(in)
	if err != nil {
		return err
	}
	if extract && !t.toStdout {
		if t.root, err = os.OpenRoot(dir); err != nil {
			return err
		}
		defer t.root.Close()
	}
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if t.skips(h.Name) {
			continue
		}
		if err := t.member(h, r, extract); err != nil {
			t.p.Warn(fmt.Errorf("%s: %w", h.Name, err))
		}
	}
	for _, set := range t.dirTimes { // after everything in the directories has been written
		if err := set(); err != nil {
			t.p.Warn(err)
		}
	}
	return nil
}

// decompress looks at the first bytes and undoes gzip or bzip2.
func decompress(r io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	magic, _ := in.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(in), nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X'}):
		return nil, errors.New("compressed with zstd or xz, which this tar does not know")
	}
	return in, nil
}

func (t *tarring) skips(name string) bool {
	if t.excluded(name) {
		return true
	}
	clean := path.Clean(name)
	for _, wanted := range t.wanted {
		wanted = path.Clean(wanted)
		if clean == wanted || strings.HasPrefix(clean, wanted+"/") {
			return false
		}
	}
	return len(t.wanted) > 0
}

func (t *tarring) member(h *tar.Header, r io.Reader, extract bool) error {
	switch {
	case !extract:
		return t.list(h)
	case t.toStdout:
		_, err := io.Copy(t.p.Out, r)
		return err
	}
	if t.verbose {
		fmt.Fprintln(t.p.Out, h.Name)
	}
	name := t.stripped(h.Name)
	if name == "." || name == "" {
		return nil
	}
	if err := t.root.MkdirAll(path.Dir(name), 0o777); err != nil {
		return err
	}
	if _, err := t.root.Lstat(name); err == nil && t.keepOld && h.Typeflag != tar.TypeDir {
		return fs.ErrExist
	}
	if h.Typeflag != tar.TypeDir {
		if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := t.make(h, name, r); err != nil {
		return err
	}
	return t.finish(h, name)
}

// stripped is a member's name without its first components and without a leading slash.
func (t *tarring) stripped(name string) string {
	parts := strings.Split(strings.Trim(path.Clean(name), "/"), "/")
	if t.strip >= len(parts) {
		return ""
	}
	return path.Join(parts[t.strip:]...)
}

// make creates the file. os.Root refuses every name that leads out of the directory, by dots or by links.
func (t *tarring) make(h *tar.Header, name string, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		if err := t.root.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case tar.TypeSymlink:
		return t.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return t.root.Link(t.stripped(h.Linkname), name)
	case tar.TypeReg:
		f, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		return t.device(h, name)
	}
	return fmt.Errorf("unsupported type %q", h.Typeflag)
}

// device makes a device or a pipe in its directory, which is opened through the root.
func (t *tarring) device(h *tar.Header, name string) error {
	dir, err := t.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[h.Typeflag]
	dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	return pathError("mknod", name, unix.Mknodat(int(dir.Fd()), path.Base(name), kind|0o600, int(dev)))
}

// finish sets owner, mode and times, in this order: a change of owner clears the set-id bits. A hard link has those of
// its file, which has been finished.
func (t *tarring) finish(h *tar.Header, name string) error {
	if h.Typeflag == tar.TypeLink {
		return nil
	}
	if t.sameOwner {
		if err := t.root.Lchown(name, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	if err := t.root.Chmod(name, h.FileInfo().Mode()); err != nil {
		return err
	}
	times := func() error { return t.root.Chtimes(name, h.ModTime, h.ModTime) }
	if h.Typeflag == tar.TypeDir {
		t.dirTimes = append(t.dirTimes, times)
		return nil
	}
	return times()
}

func (t *tarring) list(h *tar.Header) error {
	if !t.verbose {
		_, err := fmt.Fprintln(t.p.Out, h.Name)
		return err
	}
	kinds := map[byte]uint32{tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}
	mode := modeString(kinds[h.Typeflag] | uint32(h.Mode&0o7777))
	user, group := h.Uname, h.Gname
	if user == "" || t.numeric {
		user = fmt.Sprint(h.Uid)
	}
	if group == "" || t.numeric {
		group = fmt.Sprint(h.Gid)
	}
	name := h.Name
	switch h.Typeflag {
	case tar.TypeSymlink:
		name += " -> " + h.Linkname
	case tar.TypeLink:
		mode, name = "h"+mode[1:], name+" link to "+h.Linkname
	}
	_, err := fmt.Fprintf(t.p.Out, "%s %s/%s %9d %s %s\n", mode, user, group, h.Size, h.ModTime.Format("2006-01-02 15:04"), name)
	return err
}

func runGzip(p *Proc) error   { return p.zip(false, false) }
func runGunzip(p *Proc) error { return p.zip(true, false) }
func runZcat(p *Proc) error   { return p.zip(true, true) }

// zip is gzip and its kin: files are replaced by FILE.gz, or the other way round.
func (p *Proc) zip(decompress, toStdout bool) error {
	d := p.Bool("decompress", "d", "decompress")
	c := p.Bool("stdout", "c", "write to standard output, keep the files")
	keep := p.Bool("keep", "k", "keep the files")
	force := p.Bool("force", "f", "overwrite")
	test := p.Bool("test", "t", "check the files")
	level := gzip.DefaultCompression
	for i := 1; i <= 9; i++ {
		n := i
		p.flagSet().BoolFuncP(fmt.Sprintf("level-%d", i), fmt.Sprint(i), "", func(string) error { level = n; return nil })
		p.flagSet().Lookup(fmt.Sprintf("level-%d", i)).Hidden = i != 1 && i != 9
	}
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	decompress, toStdout = decompress || *d || *test, toStdout || *c
	if len(names) == 0 {
		names = []string{"-"}
	}
	z := zipping{decompress: decompress, level: level, keep: *keep, force: *force}
	for _, name := range names {
		var err error
		switch {
		case *test:
			err = p.withFile(name, func(_ string, r io.Reader) error { return z.stream(io.Discard, r) })
		case toStdout || name == "-":
			err = p.withFile(name, func(_ string, r io.Reader) error { return z.stream(p.Out, r) })
		default:
			err = z.file(name)
		}
		if err != nil {
			p.Warn(err)
		}
	}
	return nil
}

// zipping is one use of gzip.
type zipping struct {
	decompress  bool
	level       int
	keep, force bool
}

func (z zipping) stream(w io.Writer, r io.Reader) error {
	if z.decompress {
		in, err := gzip.NewReader(bufio.NewReader(r))
		if err != nil {
			return err
		}
		_, err = io.Copy(w, in)
		return err
	}
	out, err := gzip.NewWriterLevel(w, z.level)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, r); err != nil {
		return err
	}
	return out.Close()
}

// file replaces one file. The new one is complete before the old one goes.
func (z zipping) file(name string) error {
	target := name + ".gz"
	if z.decompress {
		base, ok := strings.CutSuffix(name, ".gz")
		if tgz, is := strings.CutSuffix(name, ".tgz"); is {
			base, ok = tgz+".tar", true
		}
		if !ok {
			return fmt.Errorf("%s: unknown suffix", name)
		}
		target = base
	}
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", name)
	}
	flag := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if z.force {
		flag = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	out, err := os.OpenFile(target, flag, info.Mode().Perm())
	if err != nil {
		return err
	}
	if err := errors.Join(z.stream(out, in), out.Close()); err != nil {
		os.Remove(target)
		return fmt.Errorf("%s: %w", name, err)
	}
	os.Chtimes(target, time.Time{}, info.ModTime())
	if z.keep {
		return nil
	}
	return os.Remove(name)
}
