package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/timerslack"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// HookError is a hook that could not be run, or did not end with 0 in time.
type HookError struct {
	// Hook is its stage, "createRuntime", and Path its program.
	Hook, Path string
	// Reason says how it failed, and Output how its standard error ended.
	Reason, Output string
}

// Error says all of it on one line.
func (e *HookError) Error() string {
	text := fmt.Sprintf("%s hook %s: %s", e.Hook, e.Path, e.Reason)
	if e.Output != "" {
		text += ": " + e.Output
	}
	return text
}

// runHook runs a hook for the container whose first process is pid. in is for hooks in
// the container's namespaces.
func runHook(h linux.RunHook, pid int, in *ExecInput) error {
	files, err := openHookFiles(h, pid)
	if err != nil {
		return &HookError{Hook: h.Hook, Path: h.Path, Reason: err.Error()}
	}
	defer files.close()
	start := startOutside
	if h.Inside {
		start = func(h linux.RunHook, f *hookFiles) (int, error) { return startInside(h, f, pid, in) }
	}
	hook, err := start(h, files)
	if err != nil {
		return &HookError{Hook: h.Hook, Path: h.Path, Reason: err.Error()}
	}
	if reason := waitHook(hook, h.Timeout); reason != "" {
		return &HookError{Hook: h.Hook, Path: h.Path, Reason: reason, Output: files.said()}
	}
	return nil
}

// hookFiles are a hook's standard descriptors.
type hookFiles struct {
	stdin, stdout, stderr *os.File
	// kept says that stderr is memory, to be quoted when the hook fails.
	kept bool
}

func openHookFiles(h linux.RunHook, pid int) (f *hookFiles, err error) {
	f = new(hookFiles)
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	state, err := hookState(h, pid)
	if err != nil {
		return f, err
	}
	if f.stdin, err = memory(state); err != nil {
		return f, err
	}
	if f.stdout, err = hookOutput(h.Stdout); err != nil {
		return f, err
	}
	if f.kept = h.Stderr == ""; f.kept {
		f.stderr, err = memory(nil)
		return f, err
	}
	f.stderr, err = hookOutput(h.Stderr)
	return f, err
}

func (f *hookFiles) close() {
	for _, file := range [...]*os.File{f.stdin, f.stdout, f.stderr} {
		if file != nil {
			_ = file.Close() // what the hook wrote is written
		}
	}
}

// maxQuoted is how many bytes of a hook's standard error are quoted, the last ones.
const maxQuoted = 1024

// said quotes the hook on one line, without what would command a terminal: the hook may
// be the image's, and the error is shown to the administrator.
func (f *hookFiles) said() string {
	if !f.kept {
		return ""
	}
	size, err := f.stderr.Seek(0, 2)
	if err != nil {
		return ""
	}
	b := make([]byte, min(size, maxQuoted))
	n, _ := f.stderr.ReadAt(b, size-int64(len(b)))
	words := strings.Fields(strings.ToValidUTF8(string(b[:n]), "?"))
	return strings.Map(printable, strings.Join(words, " "))
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}

// memory is an anonymous file with a content, to be read from its beginning. Unlike a
// pipe it can be left behind to a process that the hook leaves behind.
func memory(content []byte) (*os.File, error) {
	const noexec = 0x8 // MFD_NOEXEC_SEAL, Linux 6.3
	fd, err := unix.MemfdCreate("hook", unix.MFD_CLOEXEC|noexec)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("hook", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "hook")
	if len(content) == 0 {
		return f, nil
	}
	_, err = f.Write(content)
	if err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// hookOutput opens the file that output is appended to, or the bin.
func hookOutput(path string) (*os.File, error) {
	if path == "" {
		path = os.DevNull
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// hookState is what the hook reads: the state with the process id as the hook sees it.
func hookState(h linux.RunHook, pid int) ([]byte, error) {
	st := new(specs.State)
	if err := quickjson.Decode(h.State, st); err != nil {
		return nil, err
	}
	if h.PID != "" {
		st.Pid = pid
		if h.Inside {
			var err error
			if st.Pid, err = innerPID(pid); err != nil {
				return nil, err
			}
		}
	}
	return quickjson.Append(nil, st)
}

// innerPID is the number of a process in its own process id namespace.
func innerPID(pid int) (int, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/status"
	text, err := sys.ReadFile(path, maxConfig)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			numbers := strings.Fields(list)
			return strconv.Atoi(numbers[len(numbers)-1])
		}
	}
	return pid, nil // the kernel has no process id namespaces
}

// startOutside starts a hook as a child of ours, in a process group of its own.
func startOutside(h linux.RunHook, f *hookFiles) (int, error) {
	var p *os.Process
	err := timerslack.Do(func() (err error) {
		p, err = os.StartProcess(h.Path, h.Args, &os.ProcAttr{Dir: h.Dir, Env: append([]string{}, h.Env...),
			Files: []*os.File{f.stdin, f.stdout, f.stderr}, Sys: &unix.SysProcAttr{Setpgid: true}})
		return err
	})
	if err != nil {
		var failed *os.PathError
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return 0, fmt.Errorf("it cannot be executed: %w", err)
	}
	pid := p.Pid // which Release forgets
	return pid, p.Release()
}

// startInside starts a hook in the namespaces of the container, in a session of its
// own.
func startInside(h linux.RunHook, f *hookFiles, pid int, in *ExecInput) (int, error) {
	if in == nil {
		return 0, errors.New("the container's namespaces are not known here")
	}
	input := hookInput{ExecInput: *in, Hook: h}
	input.Target = pid
	input.TargetStart, _ = startTime(pid)
	p, err := compileHook(input)
	if err != nil {
		return 0, err
	}
	s, err := Start(p, StartOptions{Stdio: [3]*os.File{f.stdin, f.stdout, f.stderr}})
	if err != nil {
		return 0, err
	}
	reap(s.Parent) // the runner has ended
	return s.PID, nil
}

// waitHook waits for the end of a hook and says what was wrong about it. When its time
// is over its process group is killed. Nobody but us waits for it, so its number stays
// its own meanwhile.
func waitHook(pid, seconds int) string {
	late := false
	if seconds > 0 && !endsWithin(pid, time.Duration(seconds)*time.Second) {
		late = true
		_ = unix.Kill(-pid, unix.SIGKILL) // it may end by itself at this moment
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Sprintf("wait for it: %v", err)
		}
	}
	switch {
	case late:
		return fmt.Sprintf("killed, since it took longer than %d s", seconds)
	case ws.Signaled():
		return fmt.Sprintf("ended by signal %d (%s)", int(ws.Signal()), ws.Signal())
	case ws.ExitStatus() != 0:
		return "exit status " + strconv.Itoa(ws.ExitStatus())
	}
	return ""
}

// endsWithin waits for the end of a child of ours, without reaping it.
func endsWithin(pid int, d time.Duration) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true // wait4 will say what is wrong
	}
	defer unix.Close(fd)
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for end := time.Now().Add(d); ; {
		n, err := unix.Poll(poll, int(max(0, time.Until(end)).Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// laterHooks are the hooks of a container that exists already.
type laterHooks struct {
	compiler compiler
	in       ExecInput
}

// later finds the hooks of a container, nil if there are none.
func (r *Runtime) later(st *state) (*laterHooks, error) {
	if !st.Hooks {
		return nil, nil
	}
	spec, _, err := loadSpec(st.Config)
	if err != nil {
		return nil, err
	}
	return &laterHooks{
		compiler: compiler{Input: Input{ID: st.ID, Spec: spec, Facts: r.Facts, Bundle: st.Bundle}},
		in:       ExecInput{ID: st.ID, Spec: spec, Facts: r.Facts, Cgroups: st.Cgroups, Bundle: st.Bundle},
	}, nil
}

// run runs the hooks of a stage until one fails.
func (h *laterHooks) run(s stage, pid int) error {
	if h == nil {
		return nil
	}
	for _, step := range h.compiler.hooks(s, "") {
		if err := runHook(step.Call.(linux.RunHook), pid, &h.in); err != nil {
			return err
		}
	}
	return nil
}

// stopped runs the poststop hooks, all of them, whatever one says.
func (h *laterHooks) stopped(warn func(error)) {
	if h != nil {
		cleanUp(h.compiler.hooks(poststop, ""), warn)
	}
}

// cleanUp runs the poststop hooks among the steps.
func cleanUp(steps []plan.Step, warn func(error)) {
	for i := range steps {
		h, ok := hookIn(&steps[i])
		if !ok || h.Hook != poststop.name {
			continue
		}
		if err := runHook(h, 0, nil); err != nil && warn != nil {
			warn(err)
		}
	}
}

// told runs the poststart hooks of a plan that has been executed.
func (e *execution) told() error {
	if _, waits := e.regs[start]; waits {
		return nil // start will do it
	}
	for i := range e.plan.Steps {
		if h, ok := hookIn(&e.plan.Steps[i]); ok && h.Hook == poststart.name {
			if err := runHook(h, e.pid, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// startWithHooks is what Start does for a container that has hooks: those before the
// program, the start itself, those after it. A container one of whose hooks fails is
// killed; delete will find it stopped.
func (r *Runtime) startWithHooks(st *state, release func() error, fifo int) error {
	hooks, err := r.later(st)
	if err == nil {
		err = hooks.run(startContainer, st.PID)
	}
	if err == nil {
		err = release()
	}
	if err == nil {
		err = untilExecuted(fifo)
	}
	if err == nil {
		err = hooks.run(poststart, st.PID)
	}
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("container %q: %w", st.ID, err), r.end(st, true))
}

// untilExecuted waits until nobody has the fifo open for reading any more: the
// container's process closes it by executing its program, or by its end.
func untilExecuted(fifo int) error {
	poll := []unix.PollFd{{Fd: int32(fifo)}}
	for {
		_, err := unix.Poll(poll, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
