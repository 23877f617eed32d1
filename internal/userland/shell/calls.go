package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// call is asked before each simple command and answers with the words to run in its place.
func (s *shell) call(ctx context.Context, args []string) ([]string, error) {
	hc := interp.HandlerCtx(ctx)
	if action := s.traps.pending(); action != "" {
		return []string{"eval", action + "\n" + quoted(args)}, nil
	}
	switch args[0] {
	case "trap":
		return s.trap(hc, args)
	case "kill", "newgrp":
		return external(hc, args), nil
	case "jobs":
		return done(hc, s.jobs.list(hc.Stdout)), nil
	case "umask":
		return done(hc, umask(hc.Stdout, args[1:])), nil
	case "ulimit":
		return done(hc, s.ulimit(hc.Stdout, args[1:])), nil
	case "times":
		return done(hc, printTimes(hc.Stdout)), nil
	case "wait":
		return s.wait(hc, args), nil
	case replaceCall:
		return s.replace(hc, args[1:]), nil
	case beforeJob:
		jobs := strings.TrimSpace(strconv.Itoa(s.jobs.next()) + " " + hc.Env.Get(jobsVariable).String())
		return []string{"eval", jobsVariable + "=" + quoted([]string{jobs})}, nil
	case afterJob:
		return s.began(hc), nil
	case timeStart:
		s.timers = append(s.timers, startTimer())
		return keepStatus(hc), nil
	case timeStop:
		last := s.timers[len(s.timers)-1]
		s.timers = s.timers[:len(s.timers)-1]
		last.print(hc.Stderr, len(args) > 1)
		return keepStatus(hc), nil
	}
	return args, nil
}

// quoted makes text of words that, parsed again, gives the same words.
func quoted(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		q, err := syntax.Quote(a, syntax.LangBash)
		if err != nil { // a NUL byte, which no word can have
			q = "''"
		}
		words[i] = q
	}
	return strings.Join(words, " ")
}

// keepStatus runs nothing and leaves $? as it is.
func keepStatus(hc interp.HandlerContext) []string {
	return []string{"eval", fmt.Sprintf("(exit %d)", hc.LastExitStatus)}
}

// done is what remains of a command that has already been carried out here: its status.
func done(hc interp.HandlerContext, err error) []string {
	if err != nil {
		fmt.Fprintf(hc.Stderr, "sh: %v\n", err)
		return []string{"false"}
	}
	return []string{"true"}
}

// external runs a program for a command that the library claims and does not have.
func external(hc interp.HandlerContext, args []string) []string {
	path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
	if err != nil {
		path = "/bin/" + args[0]
	}
	return append([]string{path}, args[1:]...)
}

// replace is exec: the program takes the place of the shell, with the streams that the redirections made. It comes back
// only with the status of a failure, and then the shell ends.
func (s *shell) replace(hc interp.HandlerContext, args []string) []string {
	path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
	if err != nil {
		var status interp.ExitStatus
		errors.As(notFound(hc, args[0]), &status)
		return []string{"exit", strconv.Itoa(int(status))}
	}
	streams := []any{hc.Stdin, hc.Stdout, hc.Stderr}
	for fd, stream := range streams {
		if f, ok := stream.(*os.File); ok && int(f.Fd()) != fd {
			if err := unix.Dup2(int(f.Fd()), fd); err != nil {
				return []string{"exit", "126"}
			}
		}
	}
	err = os.Chdir(hc.Dir)
	if err == nil {
		err = syscall.Exec(path, args, exported(hc.Env))
	}
	fmt.Fprintf(hc.Stderr, "sh: %s: %v\n", args[0], reason(err))
	return []string{"exit", "126"}
}

// traps are the actions that signals cause.
type traps struct {
	mu      sync.Mutex
	actions map[syscall.Signal]string // "" is to ignore the signal
	came    chan os.Signal
	woken   chan struct{} // one token while a signal waits for its action
	queue   []syscall.Signal
	ending  []os.Signal // end this shell unless they have a trap
}

// init begins to take signals. A shell that is process 1 ends by the signals that people send, and that end other
// processes that do not handle them, unless they have a trap: the kernel does not deliver to process 1 what it does not
// handle. One that somebody types at ends only when the terminal is gone. A signal in the first millisecond, while Go's
// runtime starts, cannot be helped: it ends process 1 with status 2.
func (t *traps) init(interactive bool) {
	t.actions = map[syscall.Signal]string{}
	t.came = make(chan os.Signal, 16)
	t.woken = make(chan struct{}, 1)
	switch {
	case os.Getpid() == 1 && interactive:
		t.ending = []os.Signal{syscall.SIGHUP}
	case os.Getpid() == 1:
		t.ending = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM}
	}
	if len(t.ending) > 0 {
		signal.Notify(t.came, t.ending...)
	}
	go func() {
		for sig := range t.came {
			sig := sig.(syscall.Signal)
			t.mu.Lock()
			if _, trapped := t.actions[sig]; !trapped && slices.Contains(t.ending, os.Signal(sig)) {
				os.Exit(128 + int(sig))
			}
			t.queue = append(t.queue, sig)
			t.mu.Unlock()
			select {
			case t.woken <- struct{}{}:
			default:
			}
		}
	}()
}

// pending takes the action of the oldest signal that waits for one.
func (t *traps) pending() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) > 0 {
		sig := t.queue[0]
		t.queue = t.queue[1:]
		if action := t.actions[sig]; action != "" {
			return action
		}
	}
	select {
	case <-t.woken:
	default:
	}
	return ""
}

// waiting is the number of the signal whose action comes next, or 0.
func (t *traps) waiting() syscall.Signal {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		return 0
	}
	return t.queue[0]
}

// trap keeps the actions of signals. What concerns EXIT and ERR is left to the library.
func (s *shell) trap(hc interp.HandlerContext, args []string) ([]string, error) {
	words := args[1:]
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	switch {
	case len(words) == 0 || words[0] == "-p":
		s.traps.list(hc.Stdout)
		return []string{"trap"}, nil
	case len(words) == 1 || isNumber(words[0]):
		words = append([]string{"-"}, words...)
	}
	action, left := words[0], []string(nil)
	for _, name := range words[1:] {
		name = strings.ToUpper(name)
		if name == "EXIT" || name == "0" || name == "ERR" {
			left = append(left, strings.Replace(name, "0", "EXIT", 1))
			continue
		}
		if err := s.traps.set(action, name); err != nil {
			return done(hc, err), nil
		}
	}
	if len(left) == 0 {
		return []string{"true"}, nil
	}
	return append([]string{"trap", action}, left...), nil
}

func isNumber(text string) bool {
	_, err := strconv.Atoi(text)
	return err == nil
}

func (t *traps) set(action, name string) error {
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
	if n, err := strconv.Atoi(name); err == nil {
		sig = syscall.Signal(n)
	}
	if unix.SignalName(sig) == "" {
		return fmt.Errorf("trap: %s: no such signal", name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch action {
	case "-":
		delete(t.actions, sig)
		signal.Reset(sig)
		if slices.Contains(t.ending, os.Signal(sig)) {
			signal.Notify(t.came, sig)
		}
	case "":
		t.actions[sig] = ""
		signal.Ignore(sig)
	default:
		t.actions[sig] = action
		signal.Notify(t.came, sig)
	}
	return nil
}

func (t *traps) list(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var signals []syscall.Signal
	for sig := range t.actions {
		signals = append(signals, sig)
	}
	slices.Sort(signals)
	for _, sig := range signals {
		fmt.Fprintf(w, "trap -- %s %s\n", quoted([]string{t.actions[sig]}), strings.TrimPrefix(unix.SignalName(sig), "SIG"))
	}
}

// jobs are the background commands, by a number that this package gives them.
type jobs struct {
	mu      sync.Mutex
	changed *sync.Cond
	last    int
	byID    map[int]*job
}

// job is one background command: the first program that it started stands for it.
type job struct {
	pid     int
	running int // programs that run now, or are being started
}

func (j *jobs) init() {
	j.changed = sync.NewCond(&j.mu)
	j.byID = map[int]*job{}
}

func (j *jobs) next() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	j.byID[j.last] = &job{}
	return j.last
}

// starting is told before a program is started, which takes its time on a busy machine: wait has to wait for it, in a way that a trap
// can end, and $! is its number.
func (j *jobs) starting(id int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if b := j.byID[id]; b != nil {
		b.running++
		j.changed.Broadcast()
	}
}

func (j *jobs) started(id, pid int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if b := j.byID[id]; b != nil {
		if b.pid == 0 {
			b.pid = pid
		}
		j.changed.Broadcast()
	}
}

func (j *jobs) ended(id int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if b := j.byID[id]; b != nil {
		b.running--
		j.changed.Broadcast()
	}
}

// list prints the background commands that run a program now.
func (j *jobs) list(w io.Writer) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id := 1; id <= j.last; id++ {
		if b := j.byID[id]; b.running > 0 {
			if _, err := fmt.Fprintf(w, "[%d] Running %d\n", id, b.pid); err != nil {
				return err
			}
		}
	}
	return nil
}

// currentJob is the number of the background command that a command belongs to, or 0.
func currentJob(env expand.Environ) int {
	first, _, _ := strings.Cut(env.Get(jobsVariable).String(), " ")
	id, _ := strconv.Atoi(first)
	return id
}

// startGrace is how long a background command may take to start its first program. One that starts none, such as a loop
// of built-in commands, has no process of its own: $! is then the shell's own idea of it.
const startGrace = 100 * time.Millisecond

// began waits for the process id of the background command that was just started, and sets $!.
func (s *shell) began(hc interp.HandlerContext) []string {
	current, outer, _ := strings.Cut(hc.Env.Get(jobsVariable).String(), " ")
	id, _ := strconv.Atoi(current)
	pid := s.jobs.firstPID(id)
	assign := fmt.Sprintf("%s=%s; ", jobsVariable, quoted([]string{outer}))
	if pid == 0 {
		return []string{"eval", assign + bangVariable + "=$!"}
	}
	return []string{"eval", fmt.Sprintf("%s%s=%d; %s%d=$!", assign, bangVariable, pid, groupVariable, pid)}
}

func (j *jobs) firstPID(id int) int {
	limit := time.AfterFunc(startGrace, func() { j.changed.Broadcast() })
	defer limit.Stop()
	deadline := time.Now().Add(startGrace)
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.byID[id].pid == 0 && (j.byID[id].running > 0 || time.Now().Before(deadline)) {
		j.changed.Wait()
	}
	return j.byID[id].pid
}

// wait waits for background commands, or until a signal comes that has a trap: then its action runs, and the status is
// that of the signal. The library's own wait follows, to give the statuses.
func (s *shell) wait(hc interp.HandlerContext, args []string) []string {
	for _, a := range args[1:] {
		if pid, err := strconv.Atoi(a); err == nil && hc.Env.Get(groupVariable+a).IsSet() {
			s.waitFor(pid)
		}
	}
	if len(args) == 1 {
		s.waitFor(0)
	}
	if sig := s.traps.waiting(); sig != 0 {
		if action := s.traps.pending(); action != "" {
			return []string{"eval", fmt.Sprintf("%s\n(exit %d)", action, 128+int(sig))}
		}
	}
	words := []string{"wait"}
	for _, a := range args[1:] {
		if group := hc.Env.Get(groupVariable + a); group.IsSet() {
			a = group.String()
		}
		words = append(words, a)
	}
	return words
}

// waitFor returns when the background command of that process (0 for all of them) runs no program any more, or when a
// trapped signal has come.
func (s *shell) waitFor(pid int) {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-s.traps.woken:
			s.jobs.mu.Lock()
			s.jobs.changed.Broadcast()
			s.jobs.mu.Unlock()
		case <-stop:
		}
	}()
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	for s.jobs.anyRunning(pid) && s.traps.waiting() == 0 {
		s.jobs.changed.Wait()
	}
}

func (j *jobs) anyRunning(pid int) bool {
	for _, b := range j.byID {
		if b.running > 0 && (pid == 0 || b.pid == pid) {
			return true
		}
	}
	return false
}

// umask prints or sets the file mode mask.
func umask(w io.Writer, args []string) error {
	if len(args) == 0 {
		mask := unix.Umask(0)
		unix.Umask(mask)
		_, err := fmt.Fprintf(w, "%04o\n", mask)
		return err
	}
	mask, err := strconv.ParseUint(args[0], 8, 12)
	if err != nil {
		return fmt.Errorf("umask: %s: not an octal number", args[0])
	}
	unix.Umask(int(mask))
	return nil
}

// timer is the state of the clocks at the start of a timed command.
type timer struct {
	start     time.Time
	user, sys time.Duration
}

// cpuTime is the CPU time of the shell and of its children that have ended.
func cpuTime() (user, sys time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if unix.Getrusage(who, &r) == nil {
			user += time.Duration(r.Utime.Nano())
			sys += time.Duration(r.Stime.Nano())
		}
	}
	return user, sys
}

func startTimer() timer {
	user, sys := cpuTime()
	return timer{time.Now(), user, sys}
}

func (t timer) print(w io.Writer, posix bool) {
	user, sys := cpuTime()
	for _, row := range []struct {
		name string
		d    time.Duration
	}{{"real", time.Since(t.start)}, {"user", user - t.user}, {"sys", sys - t.sys}} {
		if posix {
			fmt.Fprintf(w, "%s %.2f\n", row.name, row.d.Seconds())
		} else {
			fmt.Fprintf(w, "%s\t%dm%.3fs\n", row.name, int(row.d.Minutes()), (row.d % time.Minute).Seconds())
		}
	}
}

// printTimes is the times command: of the shell, then of its children.
func printTimes(w io.Writer) error {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			return err
		}
		user, sys := time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano())
		fmt.Fprintf(w, "%dm%.3fs %dm%.3fs\n", int(user.Minutes()), (user % time.Minute).Seconds(), int(sys.Minutes()), (sys % time.Minute).Seconds())
	}
	return nil
}

// Builtin runs one of the library's built-in commands by itself, such as printf or test, and returns its status.
func Builtin(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	runner, err := interp.New(interp.StdIO(stdin, stdout, stderr))
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", args[0], err)
		return 2
	}
	words := make([]*syntax.Word, len(args))
	for i, a := range args {
		words[i] = word(a)
	}
	err = runner.Run(context.Background(), &syntax.CallExpr{Args: words})
	var status interp.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	fmt.Fprintf(stderr, "%s: %v\n", args[0], err)
	return 2
}
