package userland

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// found is a file that find looks at.
type found struct {
	path  string
	depth int
	info  fs.FileInfo
}

// predicate is one test or action of a find expression; false ends the conjunction it is in.
type predicate func(*found) bool

// search is a parsed find command.
type search struct {
	p        *Proc
	words    []string // of the expression, not yet parsed
	match    predicate
	action   bool // the expression has an action, so that no -print is implied
	minDepth int
	maxDepth int
	oneFS    bool
	follow   bool // symbolic links
	prune    bool // set by -prune for the file at hand
	quit     bool
	batches  []*batch
	now      time.Time
}

// batch is an -exec ... + that collects paths.
type batch struct{ command, paths []string }

const findHelp = `
Tests:    -name GLOB  -iname GLOB  -path GLOB  -regex PATTERN  -iregex PATTERN  -type f|d|l|c|b|p|s  -size [+-]N[ckMG]  -perm [-/]MODE
          -user NAME  -group NAME  -uid N  -gid N  -nouser  -nogroup  -empty  -newer FILE  -links [+-]N
          -inum N  -mtime [+-]DAYS  -mmin [+-]MINUTES  -true  -false
Actions:  -print  -print0  -ls  -delete  -prune  -quit  -exec COMMAND {} ;  -exec COMMAND {} +
Options:  -maxdepth N  -mindepth N  -xdev  -depth; -L before the first DIR follows symbolic links
Logic:    ! EXPR   EXPR -a EXPR   EXPR -o EXPR   ( EXPR )
`

func runFind(p *Proc) error {
	if wantsHelp(p.Args) {
		p.help()
		fmt.Fprint(p.Out, findHelp)
		return nil
	}
	follow := false
	for len(p.Args) > 0 && (p.Args[0] == "-L" || p.Args[0] == "-H" || p.Args[0] == "-P") {
		follow = p.Args[0] == "-L"
		p.Args = p.Args[1:]
	}
	roots := 0
	for roots < len(p.Args) && !strings.HasPrefix(p.Args[roots], "-") && p.Args[roots] != "!" && p.Args[roots] != "(" {
		roots++
	}
	s := &search{p: p, follow: follow, words: p.Args[roots:], maxDepth: 1 << 30, now: time.Now()}
	if err := s.parse(); err != nil {
		return err
	}
	starts := p.Args[:roots]
	if roots == 0 {
		starts = []string{"."}
	}
	for _, root := range starts {
		s.walk(root)
	}
	for _, b := range s.batches {
		if len(b.paths) > 0 && !s.run(append(b.command, b.paths...)) {
			p.status = 1
		}
	}
	return nil
}

func (s *search) parse() error {
	s.match = func(*found) bool { return true }
	if len(s.words) > 0 {
		match, err := s.or()
		if err != nil {
			return err
		}
		if len(s.words) > 0 {
			return Usagef("unexpected %q", s.words[0])
		}
		s.match = match
	}
	if !s.action {
		match := s.match
		s.match = func(f *found) bool { return match(f) && s.print(f, "\n") }
	}
	return nil
}

func (s *search) or() (predicate, error) {
	left, err := s.and()
	if err != nil || len(s.words) == 0 || s.words[0] != "-o" && s.words[0] != "-or" {
		return left, err
	}
	s.words = s.words[1:]
	right, err := s.or()
	return func(f *found) bool { return left(f) || right(f) }, err
}

func (s *search) and() (predicate, error) {
	left, err := s.not()
	if err != nil || len(s.words) == 0 || s.words[0] == "-o" || s.words[0] == "-or" || s.words[0] == ")" {
		return left, err
	}
	if s.words[0] == "-a" || s.words[0] == "-and" {
		s.words = s.words[1:]
	}
	right, err := s.and()
	return func(f *found) bool { return left(f) && right(f) }, err
}

func (s *search) not() (predicate, error) {
	if len(s.words) == 0 {
		return nil, Usagef("the expression ends too early")
	}
	word := s.words[0]
	s.words = s.words[1:]
	switch word {
	case "!", "-not":
		inner, err := s.not()
		return func(f *found) bool { return !inner(f) }, err
	case "(":
		inner, err := s.or()
		if err != nil {
			return nil, err
		}
		if len(s.words) == 0 || s.words[0] != ")" {
			return nil, Usagef("a '(' is not closed")
		}
		s.words = s.words[1:]
		return inner, nil
	}
	return s.primary(word)
}

// primary parses a test, an action or an option that takes no argument, and passes the others on.
func (s *search) primary(word string) (predicate, error) {
	switch word {
	case "-print", "-print0":
		s.action = true
		end := map[string]string{"-print": "\n", "-print0": "\x00"}[word]
		return func(f *found) bool { return s.print(f, end) }, nil
	case "-ls":
		s.action = true
		return s.list, nil
	case "-delete":
		s.action = true
		return s.delete, nil
	case "-exec":
		s.action = true
		return s.exec()
	case "-quit":
		s.action = true
		return func(*found) bool { s.quit = true; return true }, nil
	case "-prune":
		return func(*found) bool { s.prune = true; return true }, nil
	case "-xdev", "-mount":
		s.oneFS = true
		return func(*found) bool { return true }, nil
	case "-true", "-depth", "-noleaf":
		return func(*found) bool { return true }, nil
	case "-false":
		return func(*found) bool { return false }, nil
	case "-empty":
		return isEmpty, nil
	case "-nouser":
		known := names(passwdFile)
		return func(f *found) bool { _, ok := known[int(statOf(f.info).Uid)]; return !ok }, nil
	case "-nogroup":
		known := names(groupFile)
		return func(f *found) bool { _, ok := known[int(statOf(f.info).Gid)]; return !ok }, nil
	}
	if len(s.words) == 0 {
		return nil, Usagef("%s: unknown, or its argument is missing", word)
	}
	arg := s.words[0]
	s.words = s.words[1:]
	match, err := s.test(word, arg)
	if err != nil {
		return nil, Usagef("%s %s: %s", word, arg, err)
	}
	return match, nil
}

// test parses the primaries with one argument.
func (s *search) test(word, arg string) (predicate, error) {
	switch word {
	case "-name", "-iname", "-path", "-wholename":
		return globTest(word, arg)
	case "-regex", "-iregex":
		pattern, err := compileGo("^(?:"+toGo(arg, false)+")$", word == "-iregex")
		return func(f *found) bool { return pattern.MatchString(f.path) }, err
	case "-type":
		return func(f *found) bool { return strings.Contains(arg, typeLetter(f.info)) }, nil
	case "-size":
		return sizeTest(arg)
	case "-perm":
		return permTest(arg)
	case "-newer":
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		return func(f *found) bool { return f.info.ModTime().After(info.ModTime()) }, nil
	case "-user", "-uid":
		id, err := lookupUser(arg)
		return func(f *found) bool { return int(statOf(f.info).Uid) == id }, err
	case "-group", "-gid":
		id, err := lookupGroup(arg)
		return func(f *found) bool { return int(statOf(f.info).Gid) == id }, err
	case "-links":
		return numberTest(arg, func(f *found) int64 { return int64(statOf(f.info).Nlink) })
	case "-inum":
		return numberTest(arg, func(f *found) int64 { return int64(statOf(f.info).Ino) })
	case "-mtime":
		return numberTest(arg, func(f *found) int64 { return int64(s.now.Sub(f.info.ModTime()) / (24 * time.Hour)) })
	case "-mmin":
		return numberTest(arg, func(f *found) int64 { return int64(s.now.Sub(f.info.ModTime()) / time.Minute) })
	case "-maxdepth", "-mindepth":
		n, err := strconv.Atoi(arg)
		if word == "-maxdepth" {
			s.maxDepth = n
		} else {
			s.minDepth = n
		}
		return func(*found) bool { return true }, err
	}
	return nil, fmt.Errorf("unknown test")
}

func globTest(word, glob string) (predicate, error) {
	fold := func(name string) string { return name }
	if word == "-iname" {
		fold = strings.ToLower
	}
	if _, err := filepath.Match(glob, ""); err != nil {
		return nil, err
	}
	return func(f *found) bool {
		if word == "-name" || word == "-iname" {
			ok, _ := filepath.Match(fold(glob), fold(filepath.Base(f.path)))
			return ok
		}
		// In -path a star also matches slashes: compare with slashes replaced by a byte that no name has.
		ok, _ := filepath.Match(strings.ReplaceAll(glob, "/", "\x01"), strings.ReplaceAll(f.path, "/", "\x01"))
		return ok
	}, nil
}

// numberTest compares as find does: N is equal, +N greater, -N less.
func numberTest(arg string, value func(*found) int64) (predicate, error) {
	n, err := strconv.ParseInt(strings.TrimLeft(arg, "+-"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("not a number")
	}
	return func(f *found) bool {
		switch v := value(f); arg[0] {
		case '+':
			return v > n
		case '-':
			return v < n
		default:
			return v == n
		}
	}, nil
}

// sizeTest counts in units of 512 bytes, or of the suffix, rounded up.
func sizeTest(arg string) (predicate, error) {
	unit := int64(512)
	digits := strings.TrimRight(arg, "bckMG")
	switch arg[len(digits):] {
	case "", "b":
	case "c":
		unit = 1
	case "k":
		unit = 1 << 10
	case "M":
		unit = 1 << 20
	case "G":
		unit = 1 << 30
	default:
		return nil, fmt.Errorf("invalid unit")
	}
	return numberTest(digits, func(f *found) int64 { return (f.info.Size() + unit - 1) / unit })
}

func permTest(arg string) (predicate, error) {
	want, err := applyMode(strings.TrimLeft(arg, "-/"), 0, false, 0)
	return func(f *found) bool {
		mode := statOf(f.info).Mode & 0o7777
		switch arg[0] {
		case '-':
			return mode&want == want
		case '/':
			return mode&want != 0 || want == 0
		default:
			return mode == want
		}
	}, err
}

func typeLetter(info fs.FileInfo) string {
	letter := modeString(statOf(info).Mode)[:1]
	if letter == "-" {
		return "f"
	}
	return letter
}

func isEmpty(f *found) bool {
	if f.info.IsDir() {
		entries, err := os.ReadDir(f.path)
		return err == nil && len(entries) == 0
	}
	return f.info.Mode().IsRegular() && f.info.Size() == 0
}

// walk goes through a tree, parents first; if the expression deletes, children first, as -delete implies -depth.
func (s *search) walk(root string) {
	info, err := os.Lstat(root)
	if err != nil {
		s.p.Warn(err)
		return
	}
	info = s.target(root, info)
	depthFirst := strings.Contains(" "+strings.Join(s.p.Args, " ")+" ", " -delete ") || strings.Contains(" "+strings.Join(s.p.Args, " ")+" ", " -depth ")
	s.visit(&found{root, 0, info}, statOf(info).Dev, depthFirst)
}

// target is what a symbolic link leads to, if links are followed: but not one that leads nowhere, or back to a directory
// that it is in, in which find would go round for ever.
func (s *search) target(path string, info fs.FileInfo) fs.FileInfo {
	if !s.follow || info.Mode()&fs.ModeSymlink == 0 {
		return info
	}
	target, err := os.Stat(path)
	if err != nil {
		return info
	}
	for dir := filepath.Dir(path); target.IsDir(); dir = filepath.Dir(dir) {
		if above, err := os.Stat(dir); err == nil && os.SameFile(above, target) {
			s.p.Warnf("%s: leads back to %s", path, dir)
			return info
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return target
}

func (s *search) visit(f *found, dev uint64, depthFirst bool) {
	if s.quit {
		return
	}
	s.prune = false
	if !depthFirst && f.depth >= s.minDepth {
		s.match(f)
	}
	if f.info.IsDir() && !s.prune && !s.quit && f.depth < s.maxDepth && !(s.oneFS && statOf(f.info).Dev != dev) {
		s.children(f, dev, depthFirst)
	}
	if depthFirst && f.depth >= s.minDepth && !s.quit {
		s.match(f)
	}
}

func (s *search) children(f *found, dev uint64, depthFirst bool) {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		s.p.Warn(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			if !os.IsNotExist(err) { // it may vanish meanwhile
				s.p.Warn(err)
			}
			continue
		}
		path := strings.TrimRight(f.path, "/") + "/" + e.Name()
		s.visit(&found{path, f.depth + 1, s.target(path, info)}, dev, depthFirst)
	}
}

func (s *search) print(f *found, end string) bool {
	fmt.Fprint(s.p.Out, f.path, end)
	return true
}

func (s *search) list(f *found) bool {
	l := listing{long: true, inode: true, blocks: true, now: s.now, users: names(passwdFile), groups: names(groupFile)}
	e, err := l.entry(f.path, f.path)
	if err != nil {
		s.p.Warn(err)
		return false
	}
	l.printLong(s.p, []listed{e})
	return true
}

func (s *search) delete(f *found) bool {
	if err := os.Remove(f.path); err != nil {
		s.p.Warn(err)
		return false
	}
	return true
}

// exec parses the words up to ";" or "+".
func (s *search) exec() (predicate, error) {
	for i, word := range s.words {
		switch {
		case word == ";":
			command := s.words[:i]
			s.words = s.words[i+1:]
			return func(f *found) bool {
				args := make([]string, len(command))
				for j, a := range command {
					args[j] = strings.ReplaceAll(a, "{}", f.path)
				}
				return s.run(args)
			}, nil
		case word == "+" && i > 0 && s.words[i-1] == "{}":
			b := &batch{command: append([]string{}, s.words[:i-1]...)}
			s.batches = append(s.batches, b)
			s.words = s.words[i+1:]
			return func(f *found) bool { b.paths = append(b.paths, f.path); return true }, nil
		}
	}
	return nil, Usagef("-exec needs ';' or '{} +' at its end")
}

// run starts a command with find's own streams and says whether it succeeded.
func (s *search) run(args []string) bool {
	if len(args) == 0 {
		return false
	}
	s.p.Out.Flush()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.p.Stdin, s.p.stdout, s.p.Stderr
	err := cmd.Run()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		s.p.Warn(err)
	}
	return err == nil
}
