package userland

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// address selects lines for a sed command.
type address struct {
	line    int  // 0 if it is no line number
	last    bool // $
	plus    int  // addr,+N
	pattern *regexp.Regexp
}

// sedCommand is one command of a sed script.
type sedCommand struct {
	from, to *address
	negate   bool
	verb     byte
	text     string        // of a, i, c, q, r, w, b, t and :
	sub      *substitution // of s
	table    map[rune]rune // of y
	block    int           // of {: the index after the matching }
	active   bool          // inside its range
	end      int           // last line of an active range given by number
}

// substitution is the s command.
type substitution struct {
	pattern *regexp.Regexp
	parts   []string // literal text and references, alternating: text, group, text, group, ..., text
	global  bool
	print   bool
	nth     int
}

// editor is a running sed.
type editor struct {
	p                *Proc
	script           []*sedCommand
	silent, extended bool
	space, hold      string
	line             int
	isLast           func() bool
	next             func() (string, bool)
	appended         []string
	substituted      bool
	quitStatus       int
	files            map[string]*os.File // of w, by name
}

// openFiles makes the files of w anew, before any line is read, as POSIX has it.
func (e *editor) openFiles() error {
	e.files = map[string]*os.File{}
	for _, c := range e.script {
		if c.verb != 'w' || e.files[c.text] != nil {
			continue
		}
		f, err := os.Create(c.text)
		if err != nil {
			return err
		}
		e.files[c.text] = f
	}
	return nil
}

func runSed(p *Proc) error {
	backup := p.backupSuffix()
	silent := p.Bool("quiet", "n", "print only what the script prints")
	extended := p.Bool("regexp-extended", "E", "patterns are extended regular expressions")
	gnu := p.Bool("r", "r", "the same as -E")
	inPlace := p.Bool("in-place", "i", "change the files; -i.SUFFIX keeps what they were under names with .SUFFIX")
	separate := p.Bool("separate", "s", "line numbers start anew in each file")
	scripts := p.Strings("expression", "e", "add this `SCRIPT`: [ADDR[,ADDR]][!]COMMAND with COMMAND one of s y d D p P n N g G h H x a i c q Q = l b t : r w { }")
	file := p.String("file", "f", "", "add the script in this `FILE`")
	operands, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	if *file != "" {
		text, err := os.ReadFile(*file)
		if err != nil {
			return err
		}
		*scripts = append(*scripts, string(text))
	}
	if len(*scripts) == 0 {
		if len(operands) == 0 {
			return Usagef("missing script")
		}
		*scripts, operands = operands[:1], operands[1:]
	}
	e := &editor{p: p, silent: *silent, extended: *extended || *gnu}
	if e.script, err = parseSed(strings.Join(*scripts, "\n"), e.extended); err != nil {
		return err
	}
	if err := e.openFiles(); err != nil {
		return err
	}
	if len(operands) == 0 {
		operands = []string{"-"}
	}
	if !*inPlace && !*separate {
		return e.edit(operands)
	}
	for _, name := range operands {
		e.line = 0
		if err := e.editOne(name, *inPlace, backup); err != nil {
			return err
		}
	}
	return nil
}

// backupSuffix takes the suffix from -i.SUFFIX, or --in-place=.SUFFIX, which no other flag has: joined with the flag, and
// not needed.
func (p *Proc) backupSuffix() string {
	for i, a := range p.Args {
		for _, flag := range []string{"-i", "-Ei", "-ni", "-ri", "--in-place="} {
			if suffix, ok := strings.CutPrefix(a, flag); ok && strings.HasPrefix(suffix, ".") {
				p.Args = append(append(append([]string{}, p.Args[:i]...), strings.TrimSuffix(flag, "=")), p.Args[i+1:]...)
				return suffix
			}
		}
	}
	return ""
}

// editOne edits one file by itself; in place means that its content is replaced, and a backup suffix that what it was is
// kept under its name with the suffix.
func (e *editor) editOne(name string, inPlace bool, backup string) error {
	if !inPlace {
		return e.edit([]string{name})
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	out := e.p.Out
	defer func() { e.p.Out = out }()
	var text strings.Builder
	e.p.Out = bufio.NewWriter(&text)
	if err := e.edit([]string{name}); err != nil {
		return err
	}
	e.p.Out.Flush()
	if backup != "" {
		if err := os.Rename(name, name+backup); err != nil {
			return err
		}
	}
	return os.WriteFile(name, []byte(text.String()), info.Mode().Perm())
}

// edit runs the script over the lines of the files, taken as one.
func (e *editor) edit(names []string) error {
	lines := e.lines(names)
	ahead, more := lines()
	e.next = func() (string, bool) {
		line, ok := ahead, more
		if ok {
			ahead, more = lines()
			e.line++
		}
		return line, ok
	}
	e.isLast = func() bool { return !more }
	for {
		line, ok := e.next()
		if !ok {
			return nil
		}
		e.space = line
		quit, err := e.cycle()
		if err != nil || quit {
			if err == nil && e.quitStatus != 0 {
				err = exitStatus(e.quitStatus)
			}
			return err
		}
	}
}

// lines returns a function that gives the next line of the files, opened one after the other.
func (e *editor) lines(names []string) func() (string, bool) {
	var in *bufio.Reader
	var file *os.File
	return func() (string, bool) {
		for {
			if in == nil {
				if len(names) == 0 {
					return "", false
				}
				name := names[0]
				names = names[1:]
				if name == "-" {
					in = bufio.NewReader(e.p.Stdin)
				} else if f, err := os.Open(name); err != nil {
					e.p.Warn(err)
					continue
				} else {
					in, file = bufio.NewReader(f), f
				}
			}
			line, err := in.ReadString('\n')
			if line != "" {
				return strings.TrimSuffix(line, "\n"), true
			}
			if err != io.EOF {
				e.p.Warn(err)
			}
			if file != nil {
				file.Close()
			}
			in, file = nil, nil
		}
	}
}

// cycle runs the script on one line and prints what is left of it.
func (e *editor) cycle() (quit bool, err error) {
	e.substituted = false
	for {
		outcome, err := e.run()
		if err != nil {
			return true, err
		}
		if outcome == restart {
			continue
		}
		if !e.silent && outcome != deleted && outcome != quitSilently {
			fmt.Fprintln(e.p.Out, e.space)
		}
		for _, text := range e.appended {
			e.p.Out.WriteString(text)
		}
		e.appended = nil
		return outcome == quitting || outcome == quitSilently, nil
	}
}

// outcome is how a run through the script ended.
type outcome int

const (
	finished     outcome = iota
	deleted              // d: no output
	restart              // D: again with the rest of the pattern space
	quitting             // q
	quitSilently         // Q
	running
)

func (e *editor) run() (outcome, error) {
	for i := 0; i < len(e.script); {
		c := e.script[i]
		i++
		if c.verb == '}' || c.verb == ':' {
			continue
		}
		if !e.selects(c) {
			if c.verb == '{' {
				i = c.block
			}
			continue
		}
		switch {
		case c.verb == 'b', c.verb == 't' && e.substituted:
			if c.verb == 't' {
				e.substituted = false
			}
			if c.text == "" {
				return finished, nil
			}
			i = c.block
			continue
		}
		if o := e.do(c); o != running {
			return o, nil
		}
	}
	return finished, nil
}

// selects says whether the command applies to the current line.
func (e *editor) selects(c *sedCommand) bool {
	return e.inRange(c) != c.negate
}

func (e *editor) inRange(c *sedCommand) bool {
	switch {
	case c.from == nil:
		return true
	case c.to == nil:
		return e.at(c.from)
	case c.active:
		c.active = !(e.at(c.to) || c.end > 0 && e.line >= c.end)
		return c.end == 0 || e.line <= c.end
	case e.at(c.from):
		c.end = c.to.line
		if c.to.plus > 0 {
			c.end = e.line + c.to.plus
		}
		c.active = c.end == 0 && !c.to.last || c.end > e.line || c.to.last && !e.isLast()
		return true
	}
	return false
}

func (e *editor) at(a *address) bool {
	switch {
	case a.pattern != nil:
		return a.pattern.MatchString(e.space)
	case a.last:
		return e.isLast()
	}
	return a.line > 0 && a.line == e.line
}

// do runs one command that does not branch.
func (e *editor) do(c *sedCommand) outcome {
	out := e.p.Out
	switch c.verb {
	case 's':
		e.substitute(c.sub)
	case 'y':
		e.space = strings.Map(func(r rune) rune {
			if to, ok := c.table[r]; ok {
				return to
			}
			return r
		}, e.space)
	case 'd':
		return deleted
	case 'D':
		_, rest, more := strings.Cut(e.space, "\n")
		if !more {
			return deleted
		}
		e.space = rest
		return restart
	case 'p':
		fmt.Fprintln(out, e.space)
	case 'P':
		first, _, _ := strings.Cut(e.space, "\n")
		fmt.Fprintln(out, first)
	case '=':
		fmt.Fprintln(out, e.line)
	case 'l':
		fmt.Fprintf(out, "%s$\n", strings.Trim(strconv.Quote(e.space), `"`))
	case 'a':
		e.appended = append(e.appended, c.text+"\n")
	case 'i':
		fmt.Fprintln(out, c.text)
	case 'c':
		if !c.active {
			fmt.Fprintln(out, c.text)
		}
		return deleted
	case 'r':
		text, err := os.ReadFile(c.text)
		if err == nil {
			e.appended = append(e.appended, string(text))
		}
	case 'w':
		if _, err := fmt.Fprintln(e.files[c.text], e.space); err != nil {
			e.p.Warn(err)
		}
	case 'q', 'Q':
		e.quitStatus, _ = strconv.Atoi(c.text)
		if c.verb == 'Q' {
			return quitSilently
		}
		return quitting
	case 'n', 'N':
		return e.advance(c.verb)
	default:
		e.exchange(c.verb)
	}
	return running
}

// advance reads the next line into the pattern space (n) or behind it (N). Without one, sed ends.
func (e *editor) advance(verb byte) outcome {
	if verb == 'n' && !e.silent && !e.isLast() {
		fmt.Fprintln(e.p.Out, e.space)
	}
	line, ok := e.next()
	switch {
	case !ok:
		return finished
	case verb == 'N':
		line = e.space + "\n" + line
	}
	e.space = line
	return running
}

// exchange moves text between the pattern space and the hold space.
func (e *editor) exchange(verb byte) {
	switch verb {
	case 'g':
		e.space = e.hold
	case 'G':
		e.space += "\n" + e.hold
	case 'h':
		e.hold = e.space
	case 'H':
		e.hold += "\n" + e.space
	case 'x':
		e.space, e.hold = e.hold, e.space
	}
}

func (e *editor) substitute(s *substitution) {
	var out strings.Builder
	done, n := 0, 0
	for _, m := range s.pattern.FindAllStringSubmatchIndex(e.space, -1) {
		n++
		if n < max(s.nth, 1) || !s.global && n > max(s.nth, 1) {
			continue
		}
		out.WriteString(e.space[done:m[0]])
		for i, part := range s.parts {
			if i%2 == 0 {
				out.WriteString(part)
				continue
			}
			if group := int(part[0] - '0'); 2*group+1 < len(m) && m[2*group] >= 0 {
				out.WriteString(e.space[m[2*group]:m[2*group+1]])
			}
		}
		done = m[1]
		e.substituted = true
	}
	if n < max(s.nth, 1) {
		return
	}
	out.WriteString(e.space[done:])
	e.space = out.String()
	if s.print {
		fmt.Fprintln(e.p.Out, e.space)
	}
}
