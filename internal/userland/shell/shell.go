package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// shell is one running shell.
type shell struct {
	runner         *interp.Runner
	stdin          *os.File
	stdout, stderr io.Writer
	name           string // $0
	interactive    bool

	traps    traps
	jobs     jobs
	children children
	timers   []timer
}

// invocation is what the command line asks for.
type invocation struct {
	options     []string // for set: -e, -u, -x, ...
	command     string   // of -c
	hasCommand  bool
	fromStdin   bool // -s
	interactive bool // -i
	name        string
	params      []string
}

// errUsage is a command line that makes no sense.
var errUsage = errors.New("usage: sh [-eux] [-c COMMAND [NAME [ARG...]] | FILE [ARG...]]")

// Main runs a shell with the words after its name, and returns its exit status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	inv, err := parseArgs(args)
	if err != nil {
		fmt.Fprintf(stderr, "sh: %v\n", err)
		return 2
	}
	s, err := newShell(inv, stdin, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "sh: %v\n", err)
		return 2
	}
	s.children.reapOrphans()
	switch {
	case inv.hasCommand:
		return s.runText(strings.NewReader(inv.command), inv.name)
	case inv.name != "" && !inv.fromStdin:
		return s.runFile(inv.name)
	case s.interactive:
		return s.runTerminal()
	}
	return s.runStream(lineReader{s.stdin})
}

// parseArgs reads the words of the command line (sh(1p)). Options may be joined, as in -ec.
func parseArgs(args []string) (invocation, error) {
	inv := invocation{}
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		word := args[0]
		args = args[1:]
		if word == "--" {
			break
		}
		for _, c := range word[1:] {
			switch c {
			case 'c':
				inv.hasCommand = true
			case 's':
				inv.fromStdin = true
			case 'i':
				inv.interactive = true
			case 'l': // a login shell: there are no profiles to read
			case 'o':
				if len(args) == 0 {
					return inv, errUsage
				}
				inv.options = append(inv.options, word[:1]+"o", args[0])
				args = args[1:]
			case 'a', 'e', 'f', 'n', 'u', 'x':
				inv.options = append(inv.options, word[:1]+string(c))
			default:
				return inv, fmt.Errorf("unknown option %q; %w", word, errUsage)
			}
		}
	}
	if inv.hasCommand {
		if len(args) == 0 {
			return inv, fmt.Errorf("-c needs a command; %w", errUsage)
		}
		inv.command, args = args[0], args[1:]
	}
	inv.name = "sh"
	if len(args) > 0 && !inv.fromStdin {
		inv.name, args = args[0], args[1:]
	} else if !inv.hasCommand {
		inv.fromStdin = true
	}
	inv.params = args
	return inv, nil
}

func newShell(inv invocation, stdin io.Reader, stdout, stderr io.Writer) (*shell, error) {
	in, err := asFile(stdin)
	if err != nil {
		return nil, err
	}
	s := &shell{stdin: in, stdout: stdout, stderr: stderr, name: inv.name}
	s.interactive = inv.interactive || inv.fromStdin && term.IsTerminal(int(in.Fd()))
	s.children.pids = map[int]bool{}
	s.jobs.init()
	s.traps.init(s.interactive)
	params := append(append([]string{}, inv.options...), "--")
	s.runner, err = interp.New(
		interp.Interactive(s.interactive),
		interp.StdIO(in, stdout, stderr),
		interp.Env(expand.ListEnviron(append(os.Environ(), nameVariable+"="+inv.name)...)),
		interp.Params(append(params, inv.params...)...),
		interp.CallHandler(s.call),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return s.exec }),
	)
	return s, err
}

// asFile gives the shell a file to read: its children inherit it. Other readers come through a pipe.
func asFile(r io.Reader) (*os.File, error) {
	if f, ok := r.(*os.File); ok {
		return f, nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		io.Copy(write, r)
		write.Close()
	}()
	return read, nil
}

func (s *shell) runFile(name string) int {
	f, err := os.Open(name)
	if err != nil {
		fmt.Fprintf(s.stderr, "sh: %v\n", err)
		return 127
	}
	defer f.Close()
	return s.runText(f, name)
}

// runText runs a whole program: it is parsed before its first command runs.
func (s *shell) runText(r io.Reader, name string) int {
	file, err := syntax.NewParser().Parse(r, name)
	if err != nil {
		fmt.Fprintf(s.stderr, "sh: %v\n", err)
		return 2
	}
	file.Stmts = s.rewrite(file.Stmts)
	err = s.runner.Run(context.Background(), file)
	return s.status(s.afterTraps(err))
}

// runStream runs standard input. It is read line by line, and each command runs before the next line is read, since the
// commands read from the same stream.
func (s *shell) runStream(r io.Reader) int {
	var last error
	parser := syntax.NewParser()
	for stmts, err := range parser.InteractiveSeq(r) {
		if err != nil {
			fmt.Fprintf(s.stderr, "sh: %v\n", err)
			return 2
		}
		if parser.Incomplete() {
			continue
		}
		if exited := s.runAll(context.Background(), stmts, &last); exited {
			return s.status(last)
		}
	}
	return s.status(s.finish(last))
}

// runAll runs statements one by one and says whether one of them ended the shell.
func (s *shell) runAll(ctx context.Context, stmts []*syntax.Stmt, last *error) bool {
	for _, stmt := range s.rewrite(stmts) {
		*last = s.runner.Run(ctx, stmt)
		if s.runner.Exited() {
			return true
		}
	}
	return false
}

// finish runs what is left to run when a shell that ran statement by statement ends: the trap on EXIT.
func (s *shell) finish(last error) error {
	last = s.afterTraps(last)
	if err := s.runner.Run(context.Background(), &syntax.File{Name: s.name}); err != nil {
		return err
	}
	return last
}

// afterTraps runs the action of a signal that came with the last command.
func (s *shell) afterTraps(last error) error {
	action := s.traps.pending()
	if action == "" {
		return last
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(action), s.name)
	if err != nil {
		return last
	}
	for _, stmt := range file.Stmts {
		if err := s.runner.Run(context.Background(), stmt); s.runner.Exited() {
			return err
		}
	}
	return last
}

// status is the exit status that an answer of the interpreter means.
func (s *shell) status(err error) int {
	var exit interp.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.Is(err, context.Canceled):
		return 128 + int(syscall.SIGINT)
	}
	fmt.Fprintf(s.stderr, "sh: %v\n", err)
	return 1
}

// lineReader hands out at most one line at a time, and never reads past it: what follows belongs to the commands.
type lineReader struct{ r io.Reader }

func (l lineReader) Read(p []byte) (int, error) {
	for n := range p {
		if _, err := io.ReadFull(l.r, p[n:n+1]); err != nil {
			return n, err
		}
		if p[n] == '\n' {
			return n + 1, nil
		}
	}
	return len(p), nil
}

// interruptible runs do with a context that SIGINT cancels, and says whether that happened.
func interruptible(do func(ctx context.Context)) (interrupted bool) {
	ctx, cancel := context.WithCancel(context.Background())
	interrupts, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(interrupts, syscall.SIGINT)
	go func() {
		select {
		case <-interrupts:
			cancel()
		case <-done:
		}
	}()
	do(ctx)
	close(done)
	signal.Stop(interrupts)
	interrupted = ctx.Err() != nil
	cancel()
	return interrupted
}
