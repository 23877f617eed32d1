package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
)

// exec runs a program: the interpreter calls it for every command that is neither a function nor built in.
func (s *shell) exec(ctx context.Context, args []string) error {
	hc := interp.HandlerCtx(ctx)
	if ctx.Err() != nil {
		return interp.ExitStatus(128 + syscall.SIGINT)
	}
	path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
	if err != nil {
		return notFound(hc, args[0])
	}
	cmd := &exec.Cmd{Path: path, Args: args, Env: exported(hc.Env), Dir: hc.Dir, Stdin: hc.Stdin, Stdout: hc.Stdout, Stderr: hc.Stderr}
	job := currentJob(hc.Env)
	if job != 0 {
		s.prepareBackground(cmd)
	}
	s.jobs.starting(job)
	err = s.children.start(cmd)
	if errors.Is(err, syscall.ENOEXEC) { // a script without #!
		cmd = &exec.Cmd{Path: shellPath(), Args: append([]string{"sh", path}, args[1:]...), Env: cmd.Env, Dir: cmd.Dir, Stdin: hc.Stdin, Stdout: hc.Stdout, Stderr: hc.Stderr, SysProcAttr: cmd.SysProcAttr}
		err = s.children.start(cmd)
	}
	if err != nil {
		s.jobs.ended(job)
		fmt.Fprintf(hc.Stderr, "sh: %s: %v\n", args[0], reason(err))
		return interp.ExitStatus(126)
	}
	if ctx.Err() != nil { // Ctrl-C came before the program did, which has therefore not seen it
		cmd.Process.Signal(syscall.SIGINT)
	}
	s.jobs.started(job, cmd.Process.Pid)
	err = s.children.wait(cmd)
	s.jobs.ended(job)
	if ctx.Err() != nil {
		return interp.ExitStatus(128 + syscall.SIGINT)
	}
	return exitStatus(hc, args[0], err)
}

// notFound tells the three cases apart that a lookup takes together.
func notFound(hc interp.HandlerContext, name string) error {
	status, why := 127, "not found"
	if strings.Contains(name, "/") {
		file := name
		if !strings.HasPrefix(name, "/") {
			file = hc.Dir + "/" + name
		}
		if info, err := os.Stat(file); err == nil {
			status, why = 126, "permission denied"
			if info.IsDir() {
				why = "is a directory"
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			status, why = 126, reason(err).Error()
		}
	}
	fmt.Fprintf(hc.Stderr, "sh: %s: %s\n", name, why)
	return interp.ExitStatus(status)
}

// reason is an error without the operation and the path, which the message names itself.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// exitStatus is the status that POSIX gives to how a program ended. Death by a signal is also said in words, as people
// want to know that their program was killed.
func exitStatus(hc interp.HandlerContext, name string, err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		fmt.Fprintf(hc.Stderr, "sh: %s: %v\n", name, err)
		return interp.ExitStatus(126)
	}
	status := exit.Sys().(syscall.WaitStatus)
	if !status.Signaled() {
		return interp.ExitStatus(exit.ExitCode())
	}
	if sig := status.Signal(); sig != syscall.SIGINT && sig != syscall.SIGPIPE {
		fmt.Fprintf(hc.Stderr, "sh: %s: %v\n", name, sig)
	}
	return interp.ExitStatus(128 + status.Signal())
}

// prepareBackground keeps a background program away from the shell's input, and, in a shell that somebody types at,
// from the terminal's Ctrl-C.
func (s *shell) prepareBackground(cmd *exec.Cmd) {
	if cmd.Stdin == s.stdin {
		cmd.Stdin = nil
	}
	if s.interactive {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
}

// exported is the environment of a program: the exported variables, each once.
func exported(env expand.Environ) []string {
	values, order := map[string]string{}, []string{}
	env.Each(func(name string, v expand.Variable) bool {
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
		delete(values, name)
		if v.IsSet() && v.Exported && v.Kind == expand.String && name != nameVariable {
			values[name] = v.String()
		}
		return true
	})
	var list []string
	for _, name := range order {
		if value, ok := values[name]; ok {
			list = append(list, name+"="+value)
		}
	}
	return list
}

// shellPath is this program, for scripts without #!.
func shellPath() string {
	if path, err := exec.LookPath("sh"); err == nil {
		return path
	}
	return "/bin/sh"
}

// children are the processes that the shell waits for. As process 1 the shell also inherits orphans, and nobody else
// reaps those.
type children struct {
	mu   sync.Mutex
	pids map[int]bool
}

// start starts a program. The lock keeps the reaper away until the process is known as the shell's own.
func (c *children) start(cmd *exec.Cmd) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := cmd.Start()
	if err == nil {
		c.pids[cmd.Process.Pid] = true
	}
	return err
}

func (c *children) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pids, cmd.Process.Pid)
	return err
}

// reapOrphans makes process 1 wait for the processes that it inherits, for as long as it runs.
func (c *children) reapOrphans() {
	if os.Getpid() != 1 {
		return
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for range ended {
			c.reap()
		}
	}()
}

// reap waits for every zombie that is a child of process 1 and was not started by it.
func (c *children) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || c.pids[pid] {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[0]) == "Z" && string(fields[1]) == "1" {
			var status syscall.WaitStatus
			syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
		}
	}
}
