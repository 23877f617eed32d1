package userland

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
)

// Command is one row of the table: a program of the user land.
type Command struct {
	Name  string            // the name it is called by
	Usage string            // what follows the name in the usage line
	Does  string            // one sentence, for --help
	Run   func(*Proc) error // the program
	Raw   bool              // takes its words as they are: no flags but a lone --help
}

// Proc is one run of a command. Streams are given, so that tests can run commands without a process.
type Proc struct {
	Command *Command
	Args    []string      // the words after the name
	Stdin   io.Reader     // what it reads
	Out     *bufio.Writer // what it prints; flushed when the command ends
	Stderr  io.Writer     // where it complains
	Flags   *pflag.FlagSet

	stdout io.Writer // Out without its buffer, for child processes
	status int
	quiet  bool // what the command finds is not printed
}

// exitStatus ends a command with a status and no message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is wrong usage: the message is followed by a hint, the status is 2.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

// Usagef makes an error that says how the command was called wrongly.
func Usagef(format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...)}
}

// Main acts as the command that argv[0] names, or, started by the name "base", as the command that argv[1] names. It
// returns the exit status.
func Main(argv []string) int {
	// Where a pids limit stops the Go runtime from starting a thread, its one line
	// says enough.
	debug.SetTraceback("none")
	name := strings.TrimPrefix(filepath.Base(argv[0]), "-")
	args := argv[1:]
	if name == "base" {
		if len(args) == 0 || args[0] == "--help" || args[0] == "--list" {
			list(os.Stdout)
			return 0
		}
		name, args = args[0], args[1:]
	}
	c := find(name)
	if c == nil {
		fmt.Fprintf(os.Stderr, "base: %s: no such command; 'base --list' shows all\n", name)
		return 127
	}
	if os.Getpid() == 1 && name != "sh" {
		endOnSignals()
	}
	return Run(c, args, os.Stdin, os.Stdout, os.Stderr)
}

// endOnSignals makes process 1 of a container end by the signals that end other processes, with the status that a shell
// would report. The kernel does not deliver to process 1 what it does not handle (pid_namespaces(7)), and the Go runtime
// would end it with status 2.
func endOnSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	go func() {
		os.Exit(128 + int((<-signals).(syscall.Signal)))
	}()
}

// Names returns the names of all commands in the order of the table, which is alphabetical.
func Names() []string {
	names := make([]string, len(commands))
	for i := range commands {
		names[i] = commands[i].Name
	}
	return names
}

// find returns the command of that name, or nil.
func find(name string) *Command {
	for i := range commands {
		if commands[i].Name == name {
			return &commands[i]
		}
	}
	return nil
}

// list prints every command with what it does.
func list(w io.Writer) {
	fmt.Fprint(w, "Usage: base COMMAND [ARG...]\n\nThe commands of the built-in image, in one program.\n\n")
	for i := range commands {
		fmt.Fprintf(w, "  %-10s %s\n", commands[i].Name, commands[i].Does)
	}
}

// Run runs one command to its end and returns its exit status.
func Run(c *Command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &Proc{Command: c, Args: args, Stdin: stdin, Out: bufio.NewWriterSize(stdout, 32<<10), Stderr: stderr, stdout: stdout}
	if c.Raw && len(args) == 1 && args[0] == "--help" {
		p.help()
		p.Out.Flush()
		return 0
	}
	err := c.Run(p)
	if flushErr := p.Out.Flush(); err == nil && flushErr != nil {
		err = flushErr
	}
	return p.finish(err)
}

// finish turns what a command returned into its exit status, and says what went wrong.
func (p *Proc) finish(err error) int {
	var status exitStatus
	var usage usageError
	switch {
	case err == nil:
		return p.status
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usage):
		fmt.Fprintf(p.Stderr, "%s: %s; try '%[1]s --help'\n", p.Command.Name, usage.message)
		return 2
	}
	p.Warn(err)
	return p.status
}

// Warn reports an error and makes the exit status 1; the command goes on with its next operand.
func (p *Proc) Warn(err error) {
	p.Out.Flush()
	fmt.Fprintf(p.Stderr, "%s: %s\n", p.Command.Name, message(err))
	p.status = 1
}

// Warnf is Warn of a formatted message.
func (p *Proc) Warnf(format string, args ...any) { p.Warn(fmt.Errorf(format, args...)) }

// message words an error the way Unix commands do: the operand, then what is wrong with it.
func message(err error) string {
	switch e := err.(type) {
	case *fs.PathError:
		return e.Path + ": " + e.Err.Error()
	case *os.LinkError:
		return e.Old + " -> " + e.New + ": " + e.Err.Error()
	}
	return err.Error()
}

// flagSet returns the command's flags, made on first use: a command without flags never pays for them.
func (p *Proc) flagSet() *pflag.FlagSet {
	if p.Flags == nil {
		p.Flags = pflag.NewFlagSet(p.Command.Name, pflag.ContinueOnError)
		p.Flags.SortFlags = false
		p.Flags.Usage = func() {}
		p.Flags.SetOutput(io.Discard)
	}
	return p.Flags
}

// Bool declares a switch. Either of the names may be empty, or the long name only for the listing.
func (p *Proc) Bool(long, short, does string) *bool {
	return p.flagSet().BoolP(long, short, false, does)
}

// String declares a flag with a text value.
func (p *Proc) String(long, short, value, does string) *string {
	return p.flagSet().StringP(long, short, value, does)
}

// Strings declares a flag that may be given several times.
func (p *Proc) Strings(long, short, does string) *[]string {
	return p.flagSet().StringArrayP(long, short, nil, does)
}

// Int declares a flag with a number.
func (p *Proc) Int(long, short string, value int, does string) *int {
	return p.flagSet().IntP(long, short, value, does)
}

// Parse reads the flags declared so far and returns the operands, of which there must be at least min and, unless max
// is negative, at most max.
func (p *Proc) Parse(min, max int) ([]string, error) {
	flags := p.flagSet()
	if err := flags.Parse(p.Args); err != nil {
		if errors.Is(err, pflag.ErrHelp) && wantsHelp(p.Args) {
			p.help()
			return nil, exitStatus(0)
		}
		if errors.Is(err, pflag.ErrHelp) {
			err = errors.New("unknown shorthand flag: 'h' in -h")
		}
		return nil, usageError{err.Error()}
	}
	operands := flags.Args()
	switch {
	case len(operands) < min:
		return nil, Usagef("missing operand")
	case max >= 0 && len(operands) > max:
		return nil, Usagef("extra operand %q", operands[max])
	}
	return operands, nil
}

// ParseCommand is Parse for commands that start another: flags end at the first operand.
func (p *Proc) ParseCommand(min int) ([]string, error) {
	p.flagSet().SetInterspersed(false)
	return p.Parse(min, -1)
}

func wantsHelp(args []string) bool {
	for _, a := range args {
		if a == "--help" {
			return true
		}
	}
	return false
}

// OldNumber rewrites the old form of a count, as in "head -5", to the flag that replaced it: "-n 5".
func (p *Proc) OldNumber(flag string) {
	if len(p.Args) > 0 && regexp.MustCompile(`^[-+][0-9]+[kmc]?$`).MatchString(p.Args[0]) {
		p.Args = append([]string{flag, strings.TrimPrefix(p.Args[0], "-")}, p.Args[1:]...)
	}
}

// help prints the usage line, the sentence and the flags.
func (p *Proc) help() {
	fmt.Fprintf(p.Out, "Usage: %s %s\n\n%s\n", p.Command.Name, p.Command.Usage, p.Command.Does)
	if p.Flags != nil && p.Flags.HasFlags() {
		fmt.Fprintf(p.Out, "\n%s", p.Flags.FlagUsages())
	}
}

// printTo sends what the command prints to a file, from now to its end.
func (p *Proc) printTo(name string) error {
	f, err := os.Create(name)
	if err == nil {
		p.Out.Reset(f)
	}
	return err
}

// eachFile runs do on every named file, or on standard input when there is none or for "-". A file that cannot be
// read is reported, and the next one is taken.
func (p *Proc) eachFile(names []string, do func(name string, r io.Reader) error) {
	if len(names) == 0 {
		names = []string{"-"}
	}
	for _, name := range names {
		if err := p.withFile(name, do); err != nil {
			p.Warn(err)
		}
	}
}

func (p *Proc) withFile(name string, do func(string, io.Reader) error) error {
	if name == "-" {
		return do(name, p.Stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := do(name, f); err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return err
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// eachLine calls do for each line of r, without its newline. Lines may be of any length.
func eachLine(r io.Reader, do func(line string) error) error { return eachPart(r, '\n', do) }

// eachPart is eachLine for what another byte ends.
func eachPart(r io.Reader, end byte, do func(part string) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		part, err := in.ReadString(end)
		if part != "" {
			if doErr := do(strings.TrimSuffix(part, string(end))); doErr != nil {
				return doErr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
