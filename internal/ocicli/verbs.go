package ocicli

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/runtime"
)

// making are the flags that create and run share.
type making struct {
	bundle, pidFile, console string
	preserve                 int
	noPivot, noKeyring       bool
}

func (m *making) add(fs *flag.FlagSet) {
	fs.StringVar(&m.bundle, "bundle", ".", "directory with config.json")
	fs.StringVar(&m.bundle, "b", ".", "short for --bundle")
	fs.StringVar(&m.pidFile, "pid-file", "", "file to write the container's process id to")
	fs.StringVar(&m.console, "console-socket", "", "Unix socket to send the terminal's master end to")
	fs.IntVar(&m.preserve, "preserve-fds", 0, "number of descriptors after the first three that the program inherits")
	fs.BoolVar(&m.noPivot, "no-pivot", false, "move the root instead of pivoting, for an initramfs")
	fs.BoolVar(&m.noKeyring, "no-new-keyring", false, "leave the session keyring alone")
}

// request opens what the flags name. The returned function closes it.
func (m *making) request(id string) (*runtime.CreateRequest, func(), error) {
	req := &runtime.CreateRequest{ID: id, Bundle: m.bundle, PreserveFDs: m.preserve, NoPivot: m.noPivot, NoKeyring: m.noKeyring}
	if n, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err == nil && n > req.PreserveFDs {
		req.PreserveFDs = n
	}
	if m.console == "" {
		return req, func() {}, nil
	}
	f, err := dial(m.console)
	req.Console = f
	return req, func() { _ = f.Close() }, err
}

// dial connects to a Unix socket.
func dial(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("console socket: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("console socket %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func writePID(path string, pid int) error {
	if path == "" {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// make creates a container. starting is CreateRequest.Starting.
func (a *app) make(r *runtime.Runtime, m *making, id string, wait bool, starting func()) (*runtime.Started, error) {
	req, done, err := m.request(id)
	if err != nil {
		return nil, err
	}
	defer done()
	req.Systemd = a.systemd
	req.Wait, req.Starting = wait, starting
	req.Trace = a.debug
	s, err := r.Create(req)
	if err != nil {
		return nil, err
	}
	if err := writePID(m.pidFile, s.PID); err != nil {
		return nil, errors.Join(err, r.Delete(id, true))
	}
	return s, nil
}

func create(a *app, args []string) error {
	fs, m := a.flags("create"), making{}
	m.add(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	id, err := one(fs)
	if err != nil {
		return err
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	_, err = a.make(r, &m, id, true, nil)
	return err
}

func run(a *app, args []string) error {
	fs, m := a.flags("run"), making{}
	m.add(fs)
	detach, keep := false, false
	fs.BoolVar(&detach, "detach", false, "do not wait for the program's end")
	fs.BoolVar(&detach, "d", false, "short for --detach")
	fs.BoolVar(&keep, "keep", false, "do not delete the container afterwards")
	if err := fs.Parse(args); err != nil {
		return err
	}
	id, err := one(fs)
	if err != nil {
		return err
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	var f foreground
	s, err := a.make(r, &m, id, false, f.catch(detach))
	if err != nil || detach {
		return err
	}
	code, err := f.wait(s.PID)
	a.exit = code
	if keep {
		return err
	}
	return errors.Join(err, r.Finish(s))
}

func start(a *app, args []string) error {
	return a.withID("start", args, func(r *runtime.Runtime, id string) error { return r.Start(id) })
}

// withID runs a verb whose only argument is an id.
func (a *app) withID(verb string, args []string, do func(r *runtime.Runtime, id string) error) error {
	fs := a.flags(verb)
	if err := fs.Parse(args); err != nil {
		return err
	}
	id, err := one(fs)
	if err != nil {
		return err
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	return do(r, id)
}

func state(a *app, args []string) error {
	return a.withID("state", args, func(r *runtime.Runtime, id string) error {
		s, err := r.State(id)
		if err != nil {
			return err
		}
		return a.json(s)
	})
}

func (a *app) json(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func list(a *app, args []string) error {
	fs := a.flags("list")
	format := "table"
	quiet := false
	fs.StringVar(&format, "format", "table", "table or json")
	fs.StringVar(&format, "f", "table", "short for --format")
	fs.BoolVar(&quiet, "quiet", false, "print ids only")
	fs.BoolVar(&quiet, "q", false, "short for --quiet")
	if err := fs.Parse(args); err != nil {
		return err
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	all, err := r.List()
	if err != nil {
		return err
	}
	switch {
	case quiet:
		for _, c := range all {
			fmt.Fprintln(a.stdout, c.ID)
		}
		return nil
	case format == "json":
		if all == nil {
			all = []runtime.Info{}
		}
		return json.NewEncoder(a.stdout).Encode(all)
	case format != "table":
		return fmt.Errorf("--format %q: must be table or json", format)
	}
	w := tabwriter.NewWriter(a.stdout, 12, 1, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER")
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%d\n", c.ID, c.Pid, c.Status, c.Bundle, c.Created.Format(time.RFC3339Nano), c.Owner)
	}
	return w.Flush()
}

func kill(a *app, args []string) error {
	fs, all := a.flags("kill"), false
	fs.BoolVar(&all, "all", false, "to every process of the container")
	fs.BoolVar(&all, "a", false, "short for --all")
	if err := fs.Parse(args); err != nil {
		return err
	}
	name := "TERM"
	switch fs.NArg() {
	case 1:
	case 2:
		name = fs.Arg(1)
	default:
		return errUsage
	}
	n, err := signalNumber(name)
	if err != nil {
		return err
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	return r.Kill(fs.Arg(0), n, all)
}

func signalNumber(name string) (unix.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n < 65 {
		return unix.Signal(n), nil
	}
	upper := strings.ToUpper(name)
	if n := unix.SignalNum("SIG" + strings.TrimPrefix(upper, "SIG")); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("unknown signal %q", name)
}

func remove(a *app, args []string) error {
	fs, force := a.flags("delete"), false
	fs.BoolVar(&force, "force", false, "kill the container if it runs; do not mind if it is not there")
	fs.BoolVar(&force, "f", false, "short for --force")
	if err := fs.Parse(args); err != nil {
		return err
	}
	id, err := one(fs)
	if err != nil {
		return err
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	return r.Delete(id, force)
}

// explain prints the plan of a bundle.
func explain(a *app, args []string) error {
	fs, m := a.flags("explain"), making{}
	m.add(fs)
	chapters := fs.Bool("chapters", false, "the reasons only")
	if err := fs.Parse(args); err != nil {
		return err
	}
	id, err := one(fs)
	if err != nil {
		return err
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	in, err := r.Input(&runtime.CreateRequest{ID: id, Bundle: m.bundle, PreserveFDs: m.preserve, NoPivot: m.noPivot, NoKeyring: m.noKeyring, Systemd: a.systemd})
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
}
