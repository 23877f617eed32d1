// Package criu plans what to tell CRIU, the program criu(8), so that it freezes a
// container to files, and so that it brings one back.
//
// # Theory of operation
//
// criu finds out by itself what a process is made of: memory, threads, descriptors,
// sockets, privileges, namespaces and what is mounted in them. What it cannot know is
// what of all that is the host's. It has to be told, by name, when it freezes, and
// given something in its place when it brings back:
//
//   - mounts that show a path of the host: binds, and /dev/null over masked files. Their
//     name is the destination in the configuration (mounts.go);
//   - namespaces that outlive the container, or that are made anew for it: the network
//     namespace is never in a checkpoint, since its devices are the host's, and it is
//     empty in a user namespace (namespaces.go);
//   - the host's devices that are bound where a user namespace cannot make nodes;
//   - the standard descriptors, which lead out of the container (descriptors.go);
//   - the control groups, which are made anew with the limits of the configuration.
//
// What is given comes from the configuration of the bundle alone. A checkpoint may have
// been to places that nobody trusts, so nothing in it names a path, a device or a
// descriptor of the host.
//
// Dump and Restore are command lines, written out by Args: what explain prints is what
// runs.
package criu

import (
	"strconv"
	"strings"
)

// Options are what freezing and bringing back have in common. All but the directories
// may be zero.
type Options struct {
	// ImageDir is the host directory with the checkpoint, and WorkDir the one for logs
	// and statistics. Both are absolute.
	ImageDir, WorkDir string
	// TCPEstablished carries established TCP connections over; without it they are an
	// error.
	TCPEstablished bool
	// ExtUnixSk leaves alone the far ends of Unix sockets that are outside.
	ExtUnixSk bool
	// ShellJob is for a container whose terminal is that of the shell it was started
	// from.
	ShellJob bool
	// FileLocks carries file locks over.
	FileLocks bool
	// AutoDedup removes pages from older parts of a checkpoint that newer ones replace.
	AutoDedup bool
	// LazyPages leaves memory behind, to be fetched when it is used.
	LazyPages bool
	// EmptyNetwork has criu make a network namespace with nothing but the loopback
	// interface, down, in the place of the container's.
	EmptyNetwork bool
	// CgroupsMode is one of CgroupsModes, empty for the first.
	CgroupsMode string
	// Config is a file with further options, which those on the command line override.
	Config string
}

// CgroupsModes are what criu can do about control groups below the container's.
var CgroupsModes = []string{"soft", "full", "strict", "ignore"}

// Dump is the command line that freezes a container.
type Dump struct {
	Options
	// PID is the container's first process.
	PID int
	// Pre saves memory only, and lets the container go on. The next dump, which has this
	// one's directory as its Parent, saves what has changed since.
	Pre bool
	// Parent is the directory of the dump before, relative to ImageDir.
	Parent string
	// LeaveRunning lets the container go on.
	LeaveRunning bool
	// SkipInFlight leaves out TCP connections that are not established yet.
	SkipInFlight bool
	// LinkRemap gives deleted files that are open a name for the time being.
	LinkRemap bool
	// PageServer is HOST:PORT of a "criu page-server" that takes the memory.
	PageServer string
	// StatusFD is a descriptor that a zero byte is written to when LazyPages can be
	// asked for; 0 for none.
	StatusFD int
	// Freezer is the directory of a control group with all processes in it, which are
	// then stopped at once.
	Freezer string
	// External are resources of the host.
	External []string
}

// Restore is the command line that brings a container back.
type Restore struct {
	Options
	// Root is the root file system, a mount of its own.
	Root string
	// PIDFile is where the process id of the first process will be found.
	PIDFile string
	// CgroupRoots are the container's control groups, each from the root of its tree:
	// one PATH on version 2, CONTROLLER:PATH for each on version 1. What has none is where
	// it was.
	CgroupRoots []string
	// External, Join and Inherit are what the resources of the host are now.
	External, Join, Inherit []string
	// LSMProfile ("apparmor:NAME", "selinux:LABEL") and LSMMountContext replace what
	// the container had.
	LSMProfile, LSMMountContext string
}

// verbosity is how much criu writes to its log: all that helps to find an error.
const verbosity = "-v4"

// Names of the files that criu writes to WorkDir.
const (
	DumpLog    = "dump.log"
	RestoreLog = "restore.log"
)

// WorkFiles are all files that criu writes to WorkDir.
var WorkFiles = []string{DumpLog, RestoreLog, "stats-dump", "stats-restore"}

// ImageFiles are in every checkpoint. The second is not in one of memory alone.
var ImageFiles = []string{"inventory.img", "pstree.img"}

// words collects a command line.
type words []string

func (w *words) add(list ...string) { *w = append(*w, list...) }

//go:noinline
func (w *words) flag(set bool, name string) {
	if set {
		w.add(name)
	}
}

//go:noinline
func (w *words) option(name, value string) {
	if value != "" {
		w.add(name, value)
	}
}

//go:noinline
func (w *words) options(name string, values []string) {
	for _, v := range values {
		w.add(name, v)
	}
}

func (w *words) common(o *Options, log string) {
	w.option("--config", o.Config)
	w.add("--images-dir", o.ImageDir, "--work-dir", o.WorkDir, verbosity, "--log-file", log)
	w.flag(o.TCPEstablished, "--tcp-established")
	w.flag(o.ExtUnixSk, "--ext-unix-sk")
	w.flag(o.ShellJob, "--shell-job")
	w.flag(o.FileLocks, "--file-locks")
	w.flag(o.AutoDedup, "--auto-dedup")
	w.flag(o.LazyPages, "--lazy-pages")
	mode := o.CgroupsMode
	if mode == "" {
		mode = CgroupsModes[0]
	}
	w.add("--manage-cgroups=" + mode)
	w.flag(o.EmptyNetwork, "--empty-ns=net")
}

// Args is the command line, beginning with the name of the program.
func (d *Dump) Args() []string {
	w := words{"criu", "dump"}
	if d.Pre {
		w = words{"criu", "pre-dump"}
	}
	w.add("--tree", strconv.Itoa(d.PID))
	w.common(&d.Options, DumpLog)
	w.option("--freeze-cgroup", d.Freezer)
	w.flag(d.Pre || d.Parent != "", "--track-mem")
	w.option("--prev-images-dir", d.Parent)
	w.flag(d.LeaveRunning && !d.Pre, "--leave-running")
	w.flag(d.SkipInFlight, "--skip-in-flight")
	w.flag(d.LinkRemap, "--link-remap")
	if host, port, ok := SplitServer(d.PageServer); ok {
		w.flag(!d.LazyPages, "--page-server")
		w.add("--address", host, "--port", port)
	}
	if d.StatusFD > 0 {
		w.add("--status-fd", strconv.Itoa(d.StatusFD))
	}
	w.options("--external", d.External)
	return w
}

// SplitServer takes HOST:PORT apart, or [HOST]:PORT.
func SplitServer(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	return strings.TrimSuffix(strings.TrimPrefix(s[:i], "["), "]"), s[i+1:], true
}

// Args is the command line, beginning with the name of the program.
func (r *Restore) Args() []string {
	w := words{"criu", "restore", "--restore-detached", "--restore-sibling", "--pidfile", r.PIDFile, "--root", r.Root}
	w.common(&r.Options, RestoreLog)
	w.options("--cgroup-root", r.CgroupRoots)
	w.option("--lsm-profile", r.LSMProfile)
	w.option("--lsm-mount-context", r.LSMMountContext)
	w.options("--external", r.External)
	w.options("--join-ns", r.Join)
	w.options("--inherit-fd", r.Inherit)
	return w
}

// inherit says that a descriptor takes the place of an external resource.
func inherit(fd int, name string) string { return "fd[" + strconv.Itoa(fd) + "]:" + name }
