package ocicli

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/runtime"
)

// making are the flags that create, run and explain share.
type making struct {
	bundle, pidFile, console, pidfd string
	preserve                        int
	noPivot, noKeyring              bool
}

func (m *making) add(fs *flag.FlagSet) {
	fs.StringVar(&m.bundle, "bundle", ".", "directory with config.json")
	fs.StringVar(&m.bundle, "b", ".", "short for --bundle")
	fs.StringVar(&m.pidFile, "pid-file", "", "file to write the container's process id to")
	fs.StringVar(&m.console, "console-socket", "", "Unix socket to send the terminal's master end to")
	fs.StringVar(&m.pidfd, "pidfd-socket", "", "Unix socket to send a descriptor of the container's first process to")
	fs.IntVar(&m.preserve, "preserve-fds", 0, "number of descriptors, after the first three and those of $LISTEN_FDS, that the program inherits")
	fs.BoolVar(&m.noPivot, "no-pivot", false, "move the root instead of pivoting, for an initramfs")
	fs.BoolVar(&m.noKeyring, "no-new-keyring", false, "leave the session keyring alone")
}

// request opens what the flags name. The returned function closes it.
func (a *app) request(m *making, id string) (*runtime.CreateRequest, func(), error) {
	req := &runtime.CreateRequest{ID: id, Bundle: m.bundle, PreserveFDs: m.preserve, NoPivot: m.noPivot, NoKeyring: m.noKeyring,
		Systemd: a.manager == "systemd", NoCgroups: a.manager == "disabled", Rootless: a.rootless, Notify: os.Getenv("NOTIFY_SOCKET") != ""}
	if m.preserve < 0 {
		return nil, nil, fmt.Errorf("--preserve-fds %d: less than none", m.preserve)
	}
	if n := activated(); n > 0 {
		req.PreserveFDs += n
		req.Env = []string{"LISTEN_FDS=" + strconv.Itoa(n), "LISTEN_PID=1"}
		if names, ok := os.LookupEnv("LISTEN_FDNAMES"); ok {
			req.Env = append(req.Env, "LISTEN_FDNAMES="+names)
		}
	}
	if m.console == "" {
		return req, func() {}, nil
	}
	f, err := dial(m.console)
	if err != nil {
		return nil, nil, fmt.Errorf("--console-socket: %w", err)
	}
	req.Console = f
	return req, func() { _ = f.Close() }, nil
}

// activated counts the sockets that systemd has opened for this process, or for the one
// that it stands for, see sd_listen_fds(3). They are descriptors from 3.
func activated() int {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if pid := os.Getenv("LISTEN_PID"); err != nil || n < 0 || pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	return n
}

// writePID makes the file at once with its content: callers wait for it to appear. It
// writes through nothing that somebody else has put under the passing name, such as a
// link in a directory that everybody may write to.
func writePID(path string, pid int) error {
	if path == "" {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := unix.Unlink(tmp); err != nil && !errors.Is(err, unix.ENOENT) { // of a runtime that was killed
		return &os.PathError{Op: "unlink", Path: tmp, Err: err}
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(pid))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// make creates a container.
func (a *app) make(r *runtime.Runtime, m *making, req *runtime.CreateRequest) (*runtime.Started, error) {
	var p *plan.Plan
	if a.debug {
		in, err := r.Input(req)
		if err != nil {
			return nil, err
		}
		if p, err = runtime.Compile(in); err != nil {
			return nil, err
		}
		req.Trace = true
	}
	s, err := r.Create(req)
	if err != nil {
		return nil, err
	}
	if p != nil {
		a.logSteps(p, s.Trace)
	}
	if err := errors.Join(writePID(m.pidFile, s.PID), sendPidfd(m.pidfd, s.PID, firstProcess)); err != nil {
		return nil, errors.Join(err, r.Delete(req.ID, true))
	}
	return s, nil
}

func create(a *app, args []string) error {
	fs, m := a.flags("create"), making{}
	m.add(fs)
	return a.withFlags(fs, args, func(r *runtime.Runtime, id string) error {
		req, done, err := a.request(&m, id)
		if err != nil {
			return err
		}
		defer done()
		req.Wait = true
		_, err = a.make(r, &m, req)
		return err
	})
}

// running are the flags of run.
type running struct {
	making
	detach, keep bool
}

func (m *running) add(fs *flag.FlagSet) {
	m.making.add(fs)
	fs.BoolVar(&m.detach, "detach", false, "do not wait for the program's end")
	fs.BoolVar(&m.detach, "d", false, "short for --detach")
	fs.BoolVar(&m.keep, "keep", false, "do not delete the container afterwards")
	_ = fs.Bool("no-subreaper", false, "ignored: containr-runtime adopts no processes")
}

func run(a *app, args []string) error {
	fs, m := a.flags("run"), running{}
	m.add(fs)
	return a.withFlags(fs, args, func(r *runtime.Runtime, id string) error {
		req, done, err := a.request(&m.making, id)
		if err != nil {
			return err
		}
		defer done()
		t := &terminal{in: a.stdin, out: a.stdout}
		defer t.close()
		if !m.detach {
			req.OpenConsole = t.socketPair
		}
		var f foreground
		req.Starting = f.catch(m.detach)
		s, err := a.make(r, &m.making, req)
		if err != nil {
			return err
		}
		defer s.Relay.Close()
		return a.attend(r, s, &m, t, &f)
	})
}

// attend waits for a program in the foreground, and removes its container.
func (a *app) attend(r *runtime.Runtime, s *runtime.Started, m *running, t *terminal, f *foreground) error {
	if m.detach {
		return s.Relay.Forward(s.PID, s.PID)
	}
	if s.Relay != nil {
		go func() {
			if err := s.Relay.Forward(s.PID, os.Getpid()); err != nil {
				a.warn(err)
			}
		}()
	}
	err := a.wait(s.PID, t, f)
	if m.keep {
		return err
	}
	return errors.Join(err, r.Finish(s))
}

// wait waits for a program in the foreground; its exit code becomes ours.
func (a *app) wait(pid int, t *terminal, f *foreground) error {
	err := t.open(pid)
	code, waited := f.wait(pid)
	a.exit = code
	return errors.Join(err, waited, t.done())
}

func start(a *app, args []string) error {
	return a.withID("start", args, func(r *runtime.Runtime, id string) error {
		if os.Getenv("NOTIFY_SOCKET") == "" {
			return r.Start(id)
		}
		relay, err := r.Relay(id)
		if errors.Is(err, os.ErrNotExist) {
			return r.Start(id) // it was created without
		}
		if err != nil {
			return err
		}
		defer relay.Close()
		if err := r.Start(id); err != nil {
			return err
		}
		s, err := r.State(id)
		if err != nil {
			return err
		}
		return relay.Forward(s.PID, s.PID)
	})
}

// explain prints the plan of a bundle.
func explain(a *app, args []string) error {
	fs, m := a.flags("explain"), making{}
	m.add(fs)
	chapters := fs.Bool("chapters", false, "the reasons only")
	return a.withFlags(fs, args, func(r *runtime.Runtime, id string) error {
		m.console = "" // nobody needs it for a plan
		req, done, err := a.request(&m, id)
		if err != nil {
			return err
		}
		defer done()
		in, err := r.Input(req)
		if err != nil {
			return err
		}
		p, err := runtime.Compile(in)
		if err != nil {
			return err
		}
		zoom := plan.Steps
		if *chapters {
			zoom = plan.Chapters
		}
		return p.Write(a.stdout, zoom)
	})
}
