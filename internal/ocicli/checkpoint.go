package ocicli

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/criu"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/runtime"
)

// freezing are the flags that checkpoint and restore share.
type freezing struct {
	criu.Options
	emptyNS []string
	timeout time.Duration
}

func (m *freezing) add(fs *flag.FlagSet) {
	fs.StringVar(&m.ImageDir, "image-path", "checkpoint", "directory of the checkpoint")
	fs.StringVar(&m.WorkDir, "work-path", "", "directory for CRIU's log and statistics; that of the checkpoint unless told otherwise")
	fs.BoolVar(&m.TCPEstablished, "tcp-established", false, "carry established TCP connections over")
	fs.BoolVar(&m.ExtUnixSk, "ext-unix-sk", false, "leave the far ends of Unix sockets alone that are outside")
	fs.BoolVar(&m.ShellJob, "shell-job", false, "the container uses the terminal that it was started from")
	fs.BoolVar(&m.FileLocks, "file-locks", false, "carry file locks over")
	fs.BoolVar(&m.AutoDedup, "auto-dedup", false, "remove pages of older checkpoints that newer ones replace")
	fs.BoolVar(&m.LazyPages, "lazy-pages", false, "leave memory behind, to be fetched when it is used: checkpoint needs --page-server, restore a running criu lazy-pages")
	fs.StringVar(&m.CgroupsMode, "manage-cgroups-mode", "", "what CRIU does about control groups below the container's: soft, full, strict or ignore (default soft)")
	fs.DurationVar(&m.timeout, "criu-timeout", runtime.CRIUPatience, "kill CRIU when it takes longer; 0 waits for ever. Memory that is left behind by checkpoint --lazy-pages is waited for without a limit, unless this flag says one")
	fs.Func("empty-ns", "kind of `namespace` that is not in the checkpoint: network, which never is", func(s string) error {
		m.emptyNS = append(m.emptyNS, s)
		return nil
	})
}

// check refuses values that mean nothing.
func (m *freezing) check() error {
	if m.CgroupsMode != "" && !slices.Contains(criu.CgroupsModes, m.CgroupsMode) {
		return fmt.Errorf("--manage-cgroups-mode %q: must be one of %s", m.CgroupsMode, strings.Join(criu.CgroupsModes, ", "))
	}
	for _, ns := range m.emptyNS {
		if ns != "network" {
			return fmt.Errorf("--empty-ns %q: only the network namespace can be left out, and always is", ns)
		}
	}
	switch {
	case m.ImageDir == "":
		return errors.New("--image-path is empty")
	case m.timeout < 0:
		return fmt.Errorf("--criu-timeout %v: must not be negative", m.timeout)
	}
	return nil
}

// checkpointing are the flags of checkpoint.
type checkpointing struct {
	freezing
	dump criu.Dump
}

func (m *checkpointing) add(fs *flag.FlagSet) {
	m.freezing.add(fs)
	d := &m.dump
	fs.StringVar(&d.Parent, "parent-path", "", "directory of the checkpoint before, relative to that of this one, which saves what has changed since")
	fs.BoolVar(&d.LeaveRunning, "leave-running", false, "let the container go on")
	fs.BoolVar(&d.SkipInFlight, "tcp-skip-in-flight", false, "leave out TCP connections that are being made")
	fs.BoolVar(&d.LinkRemap, "link-remap", false, "give deleted files that are open a name for the time being")
	fs.BoolVar(&d.Pre, "pre-dump", false, "save memory only, and let the container go on: for --parent-path of the next one")
	fs.StringVar(&d.PageServer, "page-server", "", "`ADDRESS:PORT` of a criu page-server that takes the memory")
	fs.IntVar(&d.StatusFD, "status-fd", -1, "descriptor that a zero byte is written to when --lazy-pages can be asked for")
}

// command is what criu is to do.
func (m *checkpointing) command() (criu.Dump, error) {
	d := m.dump
	d.Options = m.Options
	if err := m.check(); err != nil {
		return d, err
	}
	if d.PageServer != "" {
		host, port, _ := criu.SplitServer(d.PageServer)
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
			return d, fmt.Errorf("--page-server %q: must be ADDRESS:PORT", d.PageServer)
		}
	}
	switch {
	case filepath.IsAbs(d.Parent):
		return d, fmt.Errorf("--parent-path %s: must be relative to --image-path", d.Parent)
	case d.LazyPages && d.PageServer == "":
		return d, errors.New("--lazy-pages: the memory is fetched over the network: --page-server says from where")
	case d.LazyPages && d.Pre:
		return d, errors.New("--lazy-pages: --pre-dump is about memory that is not left behind")
	case d.StatusFD >= 0 && !d.LazyPages:
		return d, errors.New("--status-fd: nothing is told there without --lazy-pages")
	}
	if d.StatusFD < 0 {
		d.StatusFD = 0
		return d, nil
	}
	if d.StatusFD < 3 || d.StatusFD > maxStatusFD {
		return d, fmt.Errorf("--status-fd %d: must be from 3 to %d", d.StatusFD, maxStatusFD)
	}
	flags, err := unix.FcntlInt(uintptr(d.StatusFD), unix.F_GETFD, 0)
	if err == nil && flags&unix.FD_CLOEXEC != 0 {
		err = unix.EBADF // it is one of ours that has the number
	}
	if err != nil {
		return d, fmt.Errorf("--status-fd %d: %w", d.StatusFD, err)
	}
	return d, nil
}

// maxStatusFD bounds the number of descriptors that are passed on.
const maxStatusFD = 100

func checkpoint(a *app, args []string) error {
	fs, m := a.flags("checkpoint"), checkpointing{}
	m.add(fs)
	explain := fs.Bool("explain", false, "print the plan instead, with the command line of criu")
	return a.withFlags(fs, args, func(r *runtime.Runtime, id string) error {
		d, err := m.command()
		if err != nil {
			return err
		}
		req := &runtime.CheckpointRequest{ID: id, Program: a.criu, Dump: d, Timeout: m.timeout, Traced: a.tracer()}
		if d.LazyPages && !isSet(fs, "criu-timeout") {
			req.Timeout = 0 // it ends when the other side has fetched all, which is when the memory is used
		}
		if !*explain {
			return r.Checkpoint(req)
		}
		p, err := r.PlanCheckpoint(req)
		if err != nil {
			return err
		}
		return p.Write(a.stdout, plan.Steps)
	})
}

// isSet reports whether a flag was given.
func isSet(fs *flag.FlagSet, name string) (set bool) {
	fs.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// tracer logs the steps of a plan that has been executed, for --debug; nil without.
func (a *app) tracer() func(*plan.Plan, []child.Record) {
	if !a.debug {
		return nil
	}
	return a.logSteps
}

// restoring are the flags of restore.
type restoring struct {
	freezing
	running
	profile, context string
}

func (m *restoring) add(fs *flag.FlagSet) {
	m.freezing.add(fs)
	fs.StringVar(&m.bundle, "bundle", ".", "directory with config.json")
	fs.StringVar(&m.bundle, "b", ".", "short for --bundle")
	fs.StringVar(&m.pidFile, "pid-file", "", "file to write the container's process id to")
	fs.StringVar(&m.console, "console-socket", "", "refused: CRIU's command line cannot hand a terminal over")
	fs.StringVar(&m.pidfd, "pidfd-socket", "", "Unix socket to send a descriptor of the container's first process to")
	fs.IntVar(&m.preserve, "preserve-fds", 0, "refused unless 0: what the container has open is in the checkpoint")
	fs.BoolVar(&m.noPivot, "no-pivot", false, "refused: CRIU always pivots the root")
	fs.BoolVar(&m.detach, "detach", false, "do not wait for the program's end")
	fs.BoolVar(&m.detach, "d", false, "short for --detach")
	fs.BoolVar(&m.keep, "keep", false, "do not delete the container afterwards")
	_ = fs.Bool("no-subreaper", false, "ignored: containr-runtime adopts no processes")
	fs.StringVar(&m.profile, "lsm-profile", "", "`TYPE:NAME` of the profile to run under: apparmor:NAME or selinux:LABEL")
	fs.StringVar(&m.context, "lsm-mount-context", "", "SELinux `label` of the container's mounts")
}

func (m *restoring) request(a *app, id string) (*runtime.RestoreRequest, error) {
	if err := m.freezing.check(); err != nil {
		return nil, err
	}
	kind, name, ok := strings.Cut(m.profile, ":")
	switch {
	case m.console != "":
		return nil, errors.New("--console-socket: CRIU's command line cannot hand a terminal over")
	case m.preserve != 0:
		return nil, fmt.Errorf("--preserve-fds %d: what the container has open is in the checkpoint, and nothing can be added", m.preserve)
	case m.noPivot:
		return nil, errors.New("--no-pivot: CRIU always pivots the root; it takes one that can be pivoted, not that of an initramfs")
	case m.profile != "" && (!ok || name == "" || kind != "apparmor" && kind != "selinux"):
		return nil, fmt.Errorf("--lsm-profile %q: must be apparmor:NAME or selinux:LABEL", m.profile)
	}
	return &runtime.RestoreRequest{
		CreateRequest: runtime.CreateRequest{ID: id, Bundle: m.bundle,
			Systemd: a.manager == "systemd", NoCgroups: a.manager == "disabled", Rootless: a.rootless},
		Program: a.criu, Timeout: m.timeout, Traced: a.tracer(),
		Restore: criu.Restore{Options: m.Options, LSMProfile: m.profile, LSMMountContext: m.context},
	}, nil
}

func restore(a *app, args []string) error {
	fs, m := a.flags("restore"), restoring{}
	m.add(fs)
	explain := fs.Bool("explain", false, "print the plan instead, with the command line of criu")
	return a.withFlags(fs, args, func(r *runtime.Runtime, id string) error {
		req, err := m.request(a, id)
		if err != nil {
			return err
		}
		if *explain {
			p, err := r.PlanRestore(req)
			if err != nil {
				return err
			}
			return p.Write(a.stdout, plan.Steps)
		}
		t := &terminal{in: a.stdin, out: a.stdout}
		var f foreground
		req.Starting = f.catch(m.detach)
		s, err := r.Restore(req)
		if err != nil {
			return err
		}
		if err := errors.Join(writePID(m.pidFile, s.PID), sendPidfd(m.pidfd, s.PID, firstProcess)); err != nil {
			return errors.Join(err, r.Delete(id, true))
		}
		return a.attend(r, s, &m.running, t, &f)
	})
}
