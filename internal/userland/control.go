package userland

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func runTrue(*Proc) error  { return nil }
func runFalse(*Proc) error { return exitStatus(1) }

func runEcho(p *Proc) error {
	args, newline, escapes := p.Args, true, false
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.Trim(args[0][1:], "neE") == "" {
		for _, c := range args[0][1:] {
			switch c {
			case 'n':
				newline = false
			case 'e':
				escapes = true
			case 'E':
				escapes = false
			}
		}
		args = args[1:]
	}
	text := strings.Join(args, " ")
	if escapes {
		var stop bool
		if text, stop = unescape(text); stop {
			newline = false
		}
	}
	p.Out.WriteString(text)
	if newline {
		p.Out.WriteByte('\n')
	}
	return nil
}

// unescape replaces the escapes of echo -e; \c says that nothing is to be printed after it.
func unescape(text string) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(text); {
		switch {
		case text[i] != '\\' || i+1 == len(text):
			out.WriteByte(text[i])
			i++
		case text[i+1] == 'c':
			return out.String(), true
		case text[i+1] == '\\':
			out.WriteByte('\\')
			i += 2
		case text[i+1] == 'x' || text[i+1] == '0':
			base, digits := 8, "01234567"
			if text[i+1] == 'x' {
				base, digits = 16, "0123456789abcdefABCDEF"
			}
			end := i + 2
			for end < len(text) && end < i+5 && strings.IndexByte(digits, text[end]) >= 0 {
				end++
			}
			value, _ := strconv.ParseUint(text[i+2:end], base, 16)
			out.WriteByte(byte(value))
			i = end
		case text[i+1] == 'e':
			out.WriteByte(0x1b)
			i += 2
		default:
			if strings.IndexByte("abfnrtv", text[i+1]) < 0 {
				out.WriteByte('\\')
			}
			c, n := setByte(text[i:])
			out.WriteByte(c)
			i += n
		}
	}
	return out.String(), false
}

func runSleep(p *Proc) error {
	words, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	var total time.Duration
	for _, word := range words {
		d, err := parseDuration(word)
		if err != nil {
			return Usagef("invalid time %q", word)
		}
		total += d
	}
	time.Sleep(total)
	return nil
}

// parseDuration reads seconds, or a number with one of the suffixes s, m, h and d.
func parseDuration(word string) (time.Duration, error) {
	if word == "infinity" || word == "inf" {
		return 1<<63 - 1, nil
	}
	unit := time.Second
	digits := strings.TrimRight(word, "smhd")
	switch word[len(digits):] {
	case "", "s":
	case "m":
		unit = time.Minute
	case "h":
		unit = time.Hour
	case "d":
		unit = 24 * time.Hour
	default:
		return 0, errors.New("invalid unit")
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 {
		return 0, errors.New("invalid number")
	}
	if n*float64(unit) > 1<<62 {
		return 1<<63 - 1, nil
	}
	return time.Duration(n * float64(unit)), nil
}

func runEnv(p *Proc) error {
	ignore := p.Bool("ignore-environment", "i", "start with an empty environment")
	unset := p.Strings("unset", "u", "remove this `NAME`")
	dir := p.String("chdir", "C", "", "change to this `DIR` first")
	words, err := p.ParseCommand(0)
	if err != nil {
		return err
	}
	env := os.Environ()
	if *ignore || len(words) > 0 && words[0] == "-" {
		env = nil
	}
	if len(words) > 0 && words[0] == "-" {
		words = words[1:]
	}
	for _, name := range *unset {
		env = setEnv(env, name, "", true)
	}
	for len(words) > 0 && strings.Contains(words[0], "=") {
		name, value, _ := strings.Cut(words[0], "=")
		env = setEnv(env, name, value, false)
		words = words[1:]
	}
	if len(words) == 0 {
		for _, line := range env {
			fmt.Fprintln(p.Out, line)
		}
		return nil
	}
	if *dir != "" {
		if err := os.Chdir(*dir); err != nil {
			return err
		}
	}
	return p.become(words, env)
}

// setEnv returns the environment with a variable set, in its old place if it had one, or removed.
func setEnv(env []string, name, value string, remove bool) []string {
	var out []string
	done := remove
	for _, line := range env {
		if !strings.HasPrefix(line, name+"=") {
			out = append(out, line)
		} else if !done {
			out = append(out, name+"="+value)
			done = true
		}
	}
	if !done {
		out = append(out, name+"="+value)
	}
	return out
}

// become replaces this process by a command. It returns only if that fails: with status 127 if there is no such
// command, and 126 if it cannot be executed.
func (p *Proc) become(words, env []string) error {
	p.Out.Flush()
	path, err := lookPath(words[0], env)
	if err == nil {
		err = pathError("exec", words[0], syscall.Exec(path, words, env))
	}
	return exitWith(p, execStatus(err), err)
}

// execStatus is the shell's status for a command that could not be started.
func execStatus(err error) int {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return 127
	}
	return 126
}

// lookPath finds a command by the PATH of an environment.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/bin:/usr/bin"
	for _, line := range env {
		if value, ok := strings.CutPrefix(line, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", &fs.PathError{Op: "exec", Path: name, Err: fs.ErrNotExist}
}

func runPrintenv(p *Proc) error {
	words, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		for _, line := range os.Environ() {
			fmt.Fprintln(p.Out, line)
		}
	}
	for _, name := range words {
		value, ok := os.LookupEnv(name)
		if !ok {
			p.status = 1
			continue
		}
		fmt.Fprintln(p.Out, value)
	}
	return nil
}

func runNohup(p *Proc) error {
	words, err := p.ParseCommand(1)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGHUP)
	return p.become(words, os.Environ())
}

func runSetsid(p *Proc) error {
	words, err := p.ParseCommand(1)
	if err != nil {
		return err
	}
	if _, err := unix.Setsid(); err == nil {
		return p.become(words, os.Environ())
	}
	// A process group leader cannot make a session; a child can.
	cmd := p.child(words)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return p.wait(cmd.Run(), words[0])
}

func runNice(p *Proc) error {
	by := p.Int("adjustment", "n", 10, "add `N` to the niceness")
	words, err := p.ParseCommand(0)
	if err != nil {
		return err
	}
	// getpriority(2) returns 20 minus the niceness.
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		fmt.Fprintln(p.Out, 20-raw)
		return nil
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 20-raw+*by); err != nil {
		p.Warnf("cannot set niceness: %w", err)
	}
	return p.become(words, os.Environ())
}

func runChroot(p *Proc) error {
	user := p.String("userspec", "", "", "become `USER[:GROUP]`")
	words, err := p.ParseCommand(1)
	if err != nil {
		return err
	}
	if err := unix.Chroot(words[0]); err != nil {
		return pathError("chroot", words[0], err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if *user != "" {
		if err := becomeUser(*user); err != nil {
			return err
		}
	}
	if len(words) == 1 {
		words = append(words, "/bin/sh")
	}
	return p.become(words[1:], os.Environ())
}

// becomeUser drops to a user, with no supplementary groups.
func becomeUser(spec string) error {
	uid, gid, err := parseOwner(spec)
	if err != nil {
		return err
	}
	if gid < 0 {
		if gid, err = primaryGroup(uid); err != nil {
			gid = uid
		}
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(gid) },
		func() error { return syscall.Setuid(uid) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// child is a command with this one's streams.
func (p *Proc) child(words []string) *exec.Cmd {
	p.Out.Flush()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.Stdin, p.stdout, p.Stderr
	return cmd
}

// wait turns how a child ended into how this command ends.
func (p *Proc) wait(err error, name string) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
			return exitStatus(128 + int(status.Signal()))
		}
		return exitStatus(exit.ExitCode())
	}
	return exitWith(p, execStatus(err), err)
}

func runTimeout(p *Proc) error {
	sig := p.String("signal", "s", "TERM", "send this `SIGNAL` when the time is over")
	kill := p.String("kill-after", "k", "", "send KILL this `TIME` later")
	preserve := p.Bool("preserve-status", "", "end with the command's status also after a timeout")
	words, err := p.ParseCommand(2)
	if err != nil {
		return err
	}
	limit, err := parseDuration(words[0])
	number, sigErr := parseSignal(*sig)
	if err != nil || sigErr != nil {
		return Usagef("invalid time %q or signal %q", words[0], *sig)
	}
	ctx := context.Background()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, words[1], words[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.Stdin, p.stdout, p.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(number) }
	if *kill != "" {
		if cmd.WaitDelay, err = parseDuration(*kill); err != nil {
			return Usagef("invalid time %q", *kill)
		}
	}
	p.Out.Flush()
	err = cmd.Run()
	if ctx.Err() != nil && !*preserve {
		return exitStatus(124)
	}
	return p.wait(err, words[1])
}

func runTime(p *Proc) error {
	posix := p.Bool("portability", "p", "print seconds only, as POSIX has it")
	words, err := p.ParseCommand(1)
	if err != nil {
		return err
	}
	start := time.Now()
	cmd := p.child(words)
	err = cmd.Run()
	real := time.Since(start)
	if cmd.ProcessState == nil {
		return p.wait(err, words[0])
	}
	user, sys := cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime()
	for _, row := range []struct {
		name string
		d    time.Duration
	}{{"real", real}, {"user", user}, {"sys", sys}} {
		if *posix {
			fmt.Fprintf(p.Stderr, "%s %.2f\n", row.name, row.d.Seconds())
		} else {
			fmt.Fprintf(p.Stderr, "%s\t%dm %.3fs\n", row.name, int(row.d.Minutes()), (row.d % time.Minute).Seconds())
		}
	}
	return p.wait(err, words[0])
}

func runXargs(p *Proc) error {
	most := p.Int("max-args", "n", 0, "use at most `N` words for each command")
	null := p.Bool("null", "0", "words end with a NUL byte")
	replace := p.String("replace", "I", "", "run once for each line, with it in place of this `TEXT`")
	noRun := p.Bool("no-run-if-empty", "r", "run nothing if there are no words")
	trace := p.Bool("verbose", "t", "print each command before it runs")
	lines := p.Int("max-lines", "L", 0, "use at most `N` lines for each command")
	atOnce := p.Int("max-procs", "P", 1, "run up to `N` commands at the same time, 0 for as many as there are")
	size := p.Int("max-chars", "s", maxWordBytes, "use at most `N` bytes for each command")
	end := p.String("eof", "E", "", "stop at this `WORD`")
	p.Bool("exit", "x", "accepted; a word that is too long is an error of the system")
	command, err := p.ParseCommand(0)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		command = []string{"echo"}
	}
	input, err := io.ReadAll(p.Stdin)
	if err != nil {
		return err
	}
	x := xargs{p: p, command: command, trace: *trace, size: min(max(*size, 1), maxWordBytes)}
	if *atOnce != 1 {
		x.slots = make(chan struct{}, cmp.Or(max(*atOnce, 0), 1<<10))
	}
	defer x.running.Wait()
	switch {
	case *replace != "":
		return x.replaceEach(string(input), *replace, *null)
	case *lines > 0:
		x.group = *lines
		return x.run(splitLines(string(input)), *noRun)
	}
	words, err := splitWords(string(input), *null)
	if err != nil {
		return err
	}
	if i := slices.Index(words, *end); i >= 0 && *end != "" {
		words = words[:i]
	}
	x.group = *most
	return x.run(words, *noRun)
}

// xargs is one run of xargs.
type xargs struct {
	p       *Proc
	command []string
	group   int // words for each command, 0 for as many as fit
	size    int // bytes for each command
	trace   bool

	slots   chan struct{} // as many as may run at the same time; nil for one
	running sync.WaitGroup
	mu      sync.Mutex // held for failed and err
	failed  bool
	err     error // of a command that runs beside others, and ends xargs
}

// maxWordBytes keeps a command line well below the kernel's limit of 128 KiB for one word and a quarter of the stack
// for all (execve(2), "Limits on size of arguments and environment").
const maxWordBytes = 128 << 10

func (x *xargs) run(words []string, noRun bool) error {
	if len(words) == 0 && !noRun {
		if err := x.start(x.command); err != nil {
			return err
		}
	}
	for len(words) > 0 {
		n, size := 0, 0
		for n < len(words) && (x.group == 0 || n < x.group) && (n == 0 || size+len(words[n]) < x.size) {
			size += len(words[n]) + 1
			n++
		}
		if err := x.start(append(append([]string{}, x.command...), words[:n]...)); err != nil {
			return err
		}
		words = words[n:]
	}
	return x.result()
}

func (x *xargs) replaceEach(input, text string, null bool) error {
	lines := splitLines(input)
	if null {
		lines, _ = splitWords(input, true)
	}
	for _, line := range lines {
		words := make([]string, len(x.command))
		for i, word := range x.command {
			words[i] = strings.ReplaceAll(word, text, strings.TrimLeft(line, " \t"))
		}
		if err := x.start(words); err != nil {
			return err
		}
	}
	return x.result()
}

// start runs one command, to its end if it is to run alone. An error ends xargs.
func (x *xargs) start(words []string) error {
	if x.trace {
		fmt.Fprintln(x.p.Stderr, strings.Join(words, " "))
	}
	cmd := x.p.child(words)
	cmd.Stdin = nil // the command must not eat the words that are still to come
	if x.slots == nil {
		return x.ended(cmd.Run(), words[0])
	}
	x.slots <- struct{}{}
	x.running.Go(func() {
		err := cmd.Run()
		x.mu.Lock()
		defer x.mu.Unlock()
		x.err = errors.Join(x.err, x.ended(err, words[0]))
		<-x.slots
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

// ended judges how a command ended. Status 255 of it ends xargs, as POSIX asks.
func (x *xargs) ended(err error, name string) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return exitWith(x.p, execStatus(err), err)
	case exit.ExitCode() == 255:
		return exitWith(x.p, 124, fmt.Errorf("%s: exited with status 255", name))
	}
	x.failed = true
	return nil
}

func (x *xargs) result() error {
	x.running.Wait()
	if x.err != nil {
		return x.err
	}
	if x.failed {
		return exitStatus(123)
	}
	return nil
}

func splitLines(text string) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// splitWords cuts the input of xargs: at blanks outside quotes and after no backslash, or at NUL bytes.
func splitWords(text string, null bool) ([]string, error) {
	if null {
		return strings.FieldsFunc(text, func(r rune) bool { return r == 0 }), nil
	}
	var words []string
	var word strings.Builder
	quote, inWord, escaped := rune(0), false, false
	for _, c := range text {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				word.WriteRune(c)
			}
		case c == '\\':
			escaped, inWord = true, true
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %q is not closed; -0 reads words as they are", string(quote))
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

func runWhich(p *Proc) error {
	all := p.Bool("all", "a", "print every match")
	names, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	for _, name := range names {
		found := false
		dirs := filepath.SplitList(os.Getenv("PATH"))
		if strings.Contains(name, "/") {
			dirs = []string{""}
		}
		for _, dir := range dirs {
			if path, err := lookPath(filepath.Join(dir, name), nil); err == nil {
				if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 && (*all || !found) {
					fmt.Fprintln(p.Out, path)
					found = true
				}
			}
		}
		if !found {
			p.status = 1
		}
	}
	return nil
}

func runTty(p *Proc) error {
	silent := p.Bool("silent", "s", "only answer with the status")
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err != nil {
		if !*silent {
			fmt.Fprintln(p.Out, "not a tty")
		}
		return exitStatus(1)
	}
	name, err := os.Readlink("/proc/self/fd/0")
	if err == nil && !*silent {
		fmt.Fprintln(p.Out, name)
	}
	return err
}

func runClear(p *Proc) error {
	_, err := p.Out.WriteString("\x1b[H\x1b[2J\x1b[3J")
	return err
}
