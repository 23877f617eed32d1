package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/syntax"
)

// errInterrupted is the end of a line that Ctrl-C abandoned.
var errInterrupted = errors.New("interrupted")

// runTerminal is the shell that somebody types at.
func (s *shell) runTerminal() int {
	// These must not end or stop a shell that somebody types at. They are caught, not ignored, since a program that the
	// shell starts would inherit that they are ignored.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGTSTP)
	lines := newLines(s)
	var last error
	for {
		ended, exited := s.session(lines, &last)
		if exited {
			return s.status(last)
		}
		if ended {
			fmt.Fprintln(s.stderr)
			return s.status(s.finish(last))
		}
	}
}

// session reads and runs commands until a syntax error, Ctrl-C at the prompt, or the end of the input. The first two
// only start a new session.
func (s *shell) session(lines *lines, last *error) (ended, exited bool) {
	parser := syntax.NewParser()
	lines.parser, lines.err = parser, nil
	for stmts, err := range parser.InteractiveSeq(lines) {
		if errors.Is(lines.err, errInterrupted) {
			return false, false
		}
		if err != nil {
			fmt.Fprintf(s.stderr, "sh: %v\n", err)
			return lines.err != nil, false
		}
		if parser.Incomplete() {
			continue
		}
		interrupted := interruptible(func(ctx context.Context) { exited = s.runAll(ctx, stmts, last) })
		switch {
		case interrupted:
			fmt.Fprintln(s.stderr) // the terminal has shown ^C and left the cursor behind it
			*last = s.setStatus(128 + int(syscall.SIGINT))
		case exited:
			return false, true
		}
	}
	return !errors.Is(lines.err, errInterrupted), false
}

// setStatus makes $? what it would be after a command with that status.
func (s *shell) setStatus(status int) error {
	return s.runner.Run(context.Background(), &syntax.Stmt{Cmd: &syntax.Subshell{Stmts: []*syntax.Stmt{
		{Cmd: &syntax.CallExpr{Args: []*syntax.Word{word("exit"), word(strconv.Itoa(status))}}},
	}}})
}

// lines reads commands from a terminal with a line editor.
type lines struct {
	s      *shell
	parser *syntax.Parser
	editor *term.Terminal
	keys   *keys
	rest   []byte // of a line that the parser has not taken yet
	err    error  // why the last read ended
}

func newLines(s *shell) *lines {
	l := &lines{s: s, keys: &keys{in: s.stdin, out: s.stdout}}
	l.editor = l.newEditor(nil)
	return l
}

func (l *lines) newEditor(history term.History) *term.Terminal {
	editor := term.NewTerminal(l.keys, "")
	editor.AutoCompleteCallback = l.complete
	if history != nil {
		editor.History = history
	}
	return editor
}

// Read gives the parser the next line. The prompt says whether the command goes on from the line before.
func (l *lines) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		line, err := l.line()
		if err != nil {
			l.err = err
			return 0, io.EOF
		}
		l.rest = []byte(line + "\n")
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// line lets the user edit one line. The terminal is in raw mode only meanwhile, so that programs find it as they expect.
func (l *lines) line() (string, error) {
	fd := int(l.s.stdin.Fd())
	l.editor.SetPrompt(l.prompt())
	if width, height, err := term.GetSize(fd); err == nil && width > 0 {
		l.editor.SetSize(width, height)
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	defer term.Restore(fd, state)
	l.keys.interrupted = false
	line, err := l.editor.ReadLine()
	if errors.Is(err, term.ErrPasteIndicator) {
		err = nil
	}
	if l.keys.interrupted {
		fmt.Fprint(l.s.stdout, "^C\r\n")
		l.editor = l.newEditor(l.editor.History)
		return "", errInterrupted
	}
	return line, err
}

// prompt is $PS1, or $PS2 inside a command. By default it shows the directory, and # for root.
func (l *lines) prompt() string {
	if l.parser.Incomplete() {
		if ps2 := l.s.runner.Vars["PS2"]; ps2.IsSet() {
			return ps2.String()
		}
		return "> "
	}
	if ps1 := l.s.runner.Vars["PS1"]; ps1.IsSet() {
		return ps1.String()
	}
	if ps1 := os.Getenv("PS1"); ps1 != "" {
		return ps1
	}
	mark := "$"
	if os.Geteuid() == 0 {
		mark = "#"
	}
	return l.s.runner.Dir + " " + mark + " "
}

// keys is the terminal as the line editor sees it. It notices Ctrl-C, which the editor takes for the end of the input.
type keys struct {
	in          io.Reader
	out         io.Writer
	interrupted bool
}

const ctrlC = 3

func (k *keys) Read(p []byte) (int, error) {
	n, err := k.in.Read(p)
	if slices.Contains(p[:n], ctrlC) {
		k.interrupted = true
	}
	return n, err
}

func (k *keys) Write(p []byte) (int, error) { return k.out.Write(p) }

// complete completes the word before the cursor when Tab is pressed: a command in the first place, otherwise a file.
func (l *lines) complete(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' {
		return "", 0, false
	}
	start := strings.LastIndexAny(line[:pos], " \t;|&(<>=") + 1
	prefix := line[start:pos]
	var found []string
	if strings.TrimRight(line[:start], " \t") == "" && !strings.Contains(prefix, "/") {
		found = commandsWith(prefix)
	} else {
		found = l.filesWith(prefix)
	}
	common := commonPrefix(found)
	if len(common) <= len(prefix) && len(found) != 1 {
		return line, pos, true
	}
	if len(found) == 1 && !strings.HasSuffix(common, "/") {
		common += " "
	}
	return line[:start] + common + line[pos:], start + len(common), true
}

// commandsWith are the programs in PATH whose names begin with prefix.
func commandsWith(prefix string) []string {
	var found []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefix) && !slices.Contains(found, e.Name()) {
				found = append(found, e.Name())
			}
		}
	}
	return found
}

// filesWith are the files whose names, as typed, begin with prefix. Directories end with a slash.
func (l *lines) filesWith(prefix string) []string {
	dir, base := filepath.Split(prefix)
	look := dir
	if !filepath.IsAbs(look) {
		look = filepath.Join(l.s.runner.Dir, dir)
	}
	entries, err := os.ReadDir(look)
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), base) || base == "" && strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name := dir + e.Name()
		if info, err := os.Stat(filepath.Join(look, e.Name())); err == nil && info.IsDir() {
			name += "/"
		}
		found = append(found, name)
	}
	return found
}

func commonPrefix(words []string) string {
	if len(words) == 0 {
		return ""
	}
	common := words[0]
	for _, w := range words[1:] {
		for !strings.HasPrefix(w, common) {
			common = common[:len(common)-1]
		}
	}
	return common
}
