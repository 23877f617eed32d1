package ocicli

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/pkg/runtime"
)

// list-valued flag.
type words []string

func (w *words) String() string     { return strings.Join(*w, ",") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

// executing are exec's flags.
type executing struct {
	process, cwd, user, pidFile, console, pidfd string
	apparmor, label                             string
	env, caps, groups, cgroups                  words
	tty, detach, noNewPrivs, ignorePaused       bool
	preserve                                    int
}

func (e *executing) add(fs *flag.FlagSet) {
	fs.StringVar(&e.process, "process", "", "file with the process as JSON")
	fs.StringVar(&e.process, "p", "", "short for --process")
	fs.StringVar(&e.cwd, "cwd", "", "working directory")
	fs.StringVar(&e.user, "user", "", "user id, and group id after a colon; without one it is the container's")
	fs.StringVar(&e.user, "u", "", "short for --user")
	fs.StringVar(&e.pidFile, "pid-file", "", "file to write the process id to")
	fs.StringVar(&e.console, "console-socket", "", "Unix socket to send the terminal's master end to")
	fs.Var(&e.env, "env", "environment variable, NAME=VALUE; may be repeated")
	fs.Var(&e.env, "e", "short for --env")
	fs.StringVar(&e.pidfd, "pidfd-socket", "", "Unix socket to send a descriptor of the process to")
	fs.Var(&e.caps, "cap", "capability to add; may be repeated")
	fs.Var(&e.caps, "c", "short for --cap")
	fs.Var(&e.groups, "additional-gids", "further group id; may be repeated")
	fs.Var(&e.groups, "g", "short for --additional-gids")
	fs.StringVar(&e.apparmor, "apparmor", "", "AppArmor profile")
	fs.StringVar(&e.label, "process-label", "", "SELinux label")
	fs.Var(&e.cgroups, "cgroup", "control group below the container's to be in: PATH, or on version 1 CONTROLLER[,CONTROLLER]:PATH, which may be repeated")
	fs.BoolVar(&e.ignorePaused, "ignore-paused", false, "make a process in a paused container, which waits until that is resumed")
	_ = fs.Bool("no-subreaper", false, "ignored: containr-runtime adopts no processes")
	fs.BoolVar(&e.tty, "tty", false, "give the process a terminal")
	fs.BoolVar(&e.tty, "t", false, "short for --tty")
	fs.BoolVar(&e.detach, "detach", false, "do not wait for the end")
	fs.BoolVar(&e.detach, "d", false, "short for --detach")
	fs.BoolVar(&e.noNewPrivs, "no-new-privs", false, "set no_new_privs")
	fs.IntVar(&e.preserve, "preserve-fds", 0, "number of descriptors after the first three that the program inherits")
}

// execute is the verb exec.
func execute(a *app, args []string) error {
	fs, e := a.flags("exec"), executing{}
	e.add(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() < 1 || fs.NArg() < 2 && e.process == "" {
		return errUsage
	}
	a.failure = 255 // 1 may be the program's
	r, err := a.runtime()
	if err != nil {
		return err
	}
	req, done, err := e.request(fs.Arg(0), fs.Args()[1:])
	if err != nil {
		return fmt.Errorf("exec failed: %w", err)
	}
	defer done()
	t := &terminal{in: a.stdin, out: a.stdout}
	defer t.close()
	if !e.detach {
		req.OpenConsole = t.socketPair
	}
	var f foreground
	req.Starting = f.catch(e.detach)
	s, err := r.Exec(req)
	if err != nil {
		return fmt.Errorf("exec failed: %w", err)
	}
	if err := errors.Join(writePID(e.pidFile, s.PID), sendPidfd(e.pidfd, s.PID, furtherProcess)); err != nil {
		return errors.Join(fmt.Errorf("exec failed: %w", err), unix.Kill(s.PID, unix.SIGKILL)) // it is our child, so the number is its own
	}
	if e.detach {
		return nil
	}
	return a.wait(s.PID, t, &f)
}

// request opens what the flags name. The returned function closes it.
func (e *executing) request(id string, args []string) (*runtime.ExecRequest, func(), error) {
	if e.preserve < 0 {
		return nil, nil, fmt.Errorf("--preserve-fds %d: less than none", e.preserve)
	}
	req := &runtime.ExecRequest{ID: id, PreserveFDs: e.preserve, Cgroups: e.cgroups, IgnorePaused: e.ignorePaused}
	req.Change = func(p *specs.Process) error { return e.change(p, args) }
	var err error
	if e.process != "" {
		if req.Process, err = readProcess(e.process); err != nil {
			return nil, nil, err
		}
	}
	if e.console == "" {
		return req, func() {}, nil
	}
	if req.Console, err = dial(e.console); err != nil {
		return nil, nil, fmt.Errorf("--console-socket: %w", err)
	}
	return req, func() { _ = req.Console.Close() }, nil
}

// readProcess reads a process from a file of JSON.
func readProcess(path string) (*specs.Process, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := new(specs.Process)
	if err := quickjson.Decode(string(text), p); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// change makes the container's own process the one that the flags ask for.
func (e *executing) change(p *specs.Process, args []string) error {
	p.Args, p.Terminal, p.ConsoleSize = args, e.tty, nil
	p.Env = append(p.Env, e.env...)
	p.NoNewPrivileges = p.NoNewPrivileges || e.noNewPrivs
	if e.cwd != "" {
		p.Cwd = e.cwd
	}
	if e.apparmor != "" {
		p.ApparmorProfile = e.apparmor
	}
	if e.label != "" {
		p.SelinuxLabel = e.label
	}
	e.addCapabilities(p)
	return e.setUser(p)
}

func (e *executing) addCapabilities(p *specs.Process) {
	if len(e.caps) == 0 {
		return
	}
	if p.Capabilities == nil {
		p.Capabilities = new(specs.LinuxCapabilities)
	}
	c := p.Capabilities
	c.Bounding = append(c.Bounding, e.caps...)
	c.Effective = append(c.Effective, e.caps...)
	c.Permitted = append(c.Permitted, e.caps...)
	if c.Inheritable != nil { // ambient ones have to be inheritable too
		c.Ambient = append(c.Ambient, e.caps...)
	}
}

func (e *executing) setUser(p *specs.Process) error {
	for _, g := range e.groups {
		n, err := strconv.ParseUint(g, 10, 31)
		if err != nil {
			return fmt.Errorf("--additional-gids %q: not a group id", g)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(n))
	}
	if e.user == "" {
		return nil
	}
	user, group, both := strings.Cut(e.user, ":")
	uid, err := strconv.ParseUint(user, 10, 31)
	if err != nil {
		return fmt.Errorf("--user %q: not a user id between 0 and 2147483647", e.user)
	}
	p.User.UID = uint32(uid) // without a group the process has the container's, as with runc
	if both {
		gid, err := strconv.ParseUint(group, 10, 31)
		if err != nil {
			return fmt.Errorf("--user %q: not a group id between 0 and 2147483647", e.user)
		}
		p.User.GID = uint32(gid)
	}
	return nil
}
