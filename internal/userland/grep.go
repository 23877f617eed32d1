package userland

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// grepping is what grep was asked for.
type grepping struct {
	invert, count, filesOnly, filesWithout, number, quiet, only, withName, noMessages bool

	follow              bool // symbolic links below directories
	before, after, most int
	pattern             *regexp.Regexp
	matched             bool
}

// errEnough ends the reading of a file whose answer is known.
var errEnough = errors.New("enough")

func runGrep(p *Proc) error {
	var g grepping
	flags := p.flagSet()
	extended := p.Bool("extended-regexp", "E", "the pattern is an extended regular expression")
	fixed := p.Bool("fixed-strings", "F", "the pattern is plain text")
	p.Bool("basic-regexp", "G", "the pattern is a basic regular expression (the default)")
	ignoreCase := p.Bool("ignore-case", "i", "ignore case")
	flags.BoolVarP(&g.invert, "invert-match", "v", false, "select the lines that do not match")
	word := p.Bool("word-regexp", "w", "match whole words")
	line := p.Bool("line-regexp", "x", "match whole lines")
	flags.BoolVarP(&g.count, "count", "c", false, "print how many lines were selected")
	flags.BoolVarP(&g.filesOnly, "files-with-matches", "l", false, "print names of files with selected lines")
	flags.BoolVarP(&g.filesWithout, "files-without-match", "L", false, "print names of files without")
	flags.BoolVarP(&g.number, "line-number", "n", false, "print line numbers")
	flags.BoolVarP(&g.only, "only-matching", "o", false, "print only what matched")
	flags.BoolVarP(&g.quiet, "quiet", "q", false, "print nothing, only answer with the status")
	flags.BoolVarP(&g.noMessages, "no-messages", "s", false, "do not complain about files that cannot be read")
	flags.IntVarP(&g.most, "max-count", "m", 0, "stop after `N` lines of a file")
	flags.IntVarP(&g.after, "after-context", "A", 0, "print `N` lines after a match")
	flags.IntVarP(&g.before, "before-context", "B", 0, "print `N` lines before a match")
	around := p.Int("context", "C", 0, "print `N` lines around a match")
	names := p.Bool("with-filename", "H", "print the file's name before each line")
	noNames := p.Bool("no-filename", "h", "do not")
	recursive := p.Bool("recursive", "r", "search directories")
	upper := p.Bool("dereference-recursive", "R", "the same, through symbolic links too")
	p.Bool("text", "a", "accepted; every file is text")
	patterns := p.Strings("regexp", "e", "match this `PATTERN`; may be repeated")
	file := p.String("file", "f", "", "match the patterns in this `FILE`, one a line")
	operands, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	if *file != "" {
		text, err := os.ReadFile(*file)
		if err != nil {
			return exitWith(p, 2, err)
		}
		*patterns = append(*patterns, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
	} else if len(*patterns) == 0 {
		if len(operands) == 0 {
			return Usagef("missing pattern")
		}
		*patterns, operands = operands[:1], operands[1:]
	}
	g.before, g.after = max(g.before, *around), max(g.after, *around)
	if g.pattern, err = grepPattern(*patterns, *extended, *fixed, *ignoreCase, *word, *line); err != nil {
		return exitWith(p, 2, err)
	}
	deep := *recursive || *upper
	if deep && len(operands) == 0 {
		operands = []string{"."}
	}
	g.withName = (*names || len(operands) > 1 || deep && isDir(operands[0], true)) && !*noNames
	g.follow = *upper
	g.searchAll(p, operands, deep)
	switch {
	case p.status != 0 && !(g.quiet && g.matched):
		return exitStatus(2)
	case !g.matched:
		return exitStatus(1)
	}
	p.status = 0
	return nil
}

// exitWith reports an error and ends the command with a status of its own.
func exitWith(p *Proc, status int, err error) error {
	p.Warn(err)
	return exitStatus(status)
}

// grepPattern makes one pattern of several, any of which may match.
func grepPattern(patterns []string, extended, fixed, ignoreCase, word, line bool) (*regexp.Regexp, error) {
	var parts []string
	for _, several := range patterns {
		for pattern := range strings.SplitSeq(several, "\n") {
			if fixed {
				parts = append(parts, regexp.QuoteMeta(pattern))
			} else {
				parts = append(parts, toGo(pattern, extended))
			}
		}
	}
	text := strings.Join(parts, "|")
	if word {
		text = `\b(?:` + text + `)\b`
	}
	if line {
		text = `^(?:` + text + `)$`
	}
	return compileGo(text, ignoreCase)
}

func (g *grepping) searchAll(p *Proc, operands []string, recursive bool) {
	if len(operands) == 0 {
		operands = []string{"-"}
	}
	complain := func(err error) {
		if !g.noMessages {
			p.Warn(err)
		}
		p.status = 2
	}
	one := func(name string) {
		if err := p.withFile(name, func(name string, r io.Reader) error { return g.search(p, name, r) }); err != nil {
			complain(err)
		}
	}
	for _, name := range operands {
		if !recursive || name == "-" {
			one(name)
			continue
		}
		g.searchTree(name, one, complain)
	}
}

// searchTree looks into every file below a name. Of symbolic links, those that are named are followed, and with -R
// those to files that are found too.
func (g *grepping) searchTree(root string, one func(string), complain func(error)) {
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if root == "." && path != root {
			path = "./" + path
		}
		switch {
		case err != nil:
			complain(err)
		case d.Type().IsRegular():
			one(path)
		case d.Type()&fs.ModeSymlink != 0 && (g.follow || path == root):
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				one(path)
			}
		}
		return nil
	})
}

func runEgrep(p *Proc) error { p.Args = append([]string{"-E"}, p.Args...); return runGrep(p) }
func runFgrep(p *Proc) error { p.Args = append([]string{"-F"}, p.Args...); return runGrep(p) }

// search prints the selected lines of one file.
func (g *grepping) search(p *Proc, name string, r io.Reader) error {
	if name == "-" {
		name = "(standard input)"
	}
	s := fileSearch{g: g, p: p, name: name}
	err := eachLine(r, s.line)
	if err == errEnough {
		err = nil
	}
	if s.selected > 0 {
		g.matched = true
	}
	prefix := ""
	if g.withName {
		prefix = name + ":"
	}
	switch {
	case g.quiet:
	case g.filesOnly && s.selected > 0, g.filesWithout && s.selected == 0:
		fmt.Fprintln(p.Out, name)
	case g.count && !g.filesOnly && !g.filesWithout:
		fmt.Fprintf(p.Out, "%s%d\n", prefix, s.selected)
	}
	return err
}

// fileSearch is the state of the search of one file.
type fileSearch struct {
	g        *grepping
	p        *Proc
	name     string
	n        int      // lines read
	selected int      // lines selected
	printed  int      // number of the last line that was printed
	owed     int      // lines of context still to print
	held     []string // lines before, for context
}

func (s *fileSearch) line(text string) error {
	s.n++
	if s.g.pattern.MatchString(text) == s.g.invert {
		switch {
		case s.owed > 0:
			s.owed--
			s.print(s.n, '-', text)
		case s.g.before > 0:
			s.held = append(s.held, text)
			s.held = s.held[max(0, len(s.held)-s.g.before):]
		}
		return nil
	}
	s.selected++
	if s.g.quiet || s.g.filesOnly || s.g.filesWithout {
		return errEnough
	}
	if !s.g.count {
		s.show(text)
	}
	if s.g.most > 0 && s.selected >= s.g.most {
		return errEnough
	}
	return nil
}

// show prints a selected line with the context before it.
func (s *fileSearch) show(text string) {
	first := s.n - len(s.held)
	if s.g.before+s.g.after > 0 && s.printed > 0 && first > s.printed+1 {
		fmt.Fprintln(s.p.Out, "--")
	}
	for i, held := range s.held {
		s.print(first+i, '-', held)
	}
	s.held, s.owed = nil, s.g.after
	if !s.g.only {
		s.print(s.n, ':', text)
		return
	}
	for _, match := range s.g.pattern.FindAllString(text, -1) {
		if match != "" && !s.g.invert {
			s.print(s.n, ':', match)
		}
	}
}

func (s *fileSearch) print(n int, mark byte, text string) {
	if s.g.withName {
		fmt.Fprintf(s.p.Out, "%s%c", s.name, mark)
	}
	if s.g.number {
		fmt.Fprintf(s.p.Out, "%d%c", n, mark)
	}
	fmt.Fprintln(s.p.Out, text)
	s.printed = n
}
