// Package ocicli is the command line of an OCI runtime: the verbs that podman,
// containerd and docker call, with the flags that they pass.
//
// # Theory of operation
//
// Main reads the global flags, then the verb, and hands the rest to the verb's
// function, which turns flags into one request of pkg/runtime and prints one answer.
// Names, flags and the JSON that is printed are those of runc, so that programs that
// were written for it work; the few flags that only crun has are there too.
//
// An error is printed as "containr-runtime: ..." on standard error, with a line that
// begins with "hint:" when pkg/runtime knows what to do, and written to the file of
// --log in the format that callers parse, see log.go. The exit code is 1 for errors of
// our own, 255 from exec; run and exec return the program's.
//
// The binary is lean, because it is started for every container: no library for
// command lines, nothing that starts slowly.
package ocicli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/runtime"
)

// Version is stamped by the linker.
var Version = "0.1.0-dev"

// app is one call of the program.
type app struct {
	stdin          *os.File
	stdout, stderr io.Writer
	root           string
	log, logFormat string
	debug          bool
	// criu is the path of that program, empty for the one in $PATH.
	criu string
	// manager is who makes control groups: cgroupfs, systemd or disabled.
	manager string
	// rootless: control groups may be left out where there is no permission.
	rootless bool
	// exit is the code to end with when there was no error, and failure the one
	// to end with when there was.
	exit, failure int
}

type verb struct {
	name, args, text string
	run              func(a *app, args []string) error
}

var verbs []verb

func init() {
	verbs = []verb{
		{"create", "[--bundle DIR] [--pid-file FILE] [--console-socket SOCKET] ID", "make a container that waits for its start", create},
		{"start", "ID", "let a created container run its program", start},
		{"run", "[--bundle DIR] [--detach] [--keep] [--pid-file FILE] [--console-socket SOCKET] ID", "create, start, wait, delete", run},
		{"exec", "[--process FILE] [--cwd DIR] [--env K=V] [--user UID[:GID]] [--tty] ID PROGRAM [ARG...]", "run a further process", execute},
		{"kill", "[--all] ID [SIGNAL]", "send a signal, TERM unless told otherwise", kill},
		{"delete", "[--force] ID", "remove a stopped container", remove},
		{"state", "ID", "print the state as JSON", state},
		{"list", "[--format table|json] [--quiet]", "list the containers", list},
		{"ps", "[--format table|json] ID [PS-ARG...]", "list the processes of a container", ps},
		{"events", "[--stats] [--interval TIME] ID", "print counters, and tell when memory runs out, as JSON", events},
		{"pause", "ID", "stop all processes of a container", pause},
		{"resume", "ID", "let a paused container go on", resume},
		{"checkpoint", "[--image-path DIR] [--work-path DIR] [--leave-running] [--pre-dump] ... ID", "freeze a container to files, with CRIU", checkpoint},
		{"restore", "[--bundle DIR] [--image-path DIR] [--work-path DIR] [--detach] [--pid-file FILE] ... ID", "bring a container back from such files", restore},
		{"update", "[--resources FILE] [--memory SIZE] [--cpu-quota TIME] [--pids-limit N] ... ID", "change limits of a container", update},
		{"spec", "[--bundle DIR] [--rootless]", "write an example config.json", spec},
		{"features", "", "print what this runtime can do as JSON", featuresVerb},
		{"explain", "[--bundle DIR] [--chapters] ID", "print the plan of a bundle without running it", explain},
	}
}

// errUsage is answered with the usage text.
var errUsage = errors.New("usage")

// Main runs one command and returns the exit code.
func Main(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	sys.GrowStack()
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, failure: 1}
	err := a.dispatch(args)
	if err == nil {
		return a.exit
	}
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	a.report(err)
	return a.failure
}

// globals are the flags before the verb.
func (a *app) globals() (fs *flag.FlagSet, check func() error) {
	fs = a.flags("")
	fs.StringVar(&a.root, "root", defaultRoot(), "directory that the state is kept in")
	fs.StringVar(&a.log, "log", "", "file to write errors to")
	fs.StringVar(&a.logFormat, "log-format", "text", "text or json")
	fs.BoolVar(&a.debug, "debug", false, "log every step with its result and time")
	systemd := fs.Bool("systemd-cgroup", false, "let systemd make the control groups; short for --cgroup-manager=systemd")
	fs.StringVar(&a.manager, "cgroup-manager", "cgroupfs", "who makes the control groups: cgroupfs, systemd or disabled")
	rootless := fs.String("rootless", "auto", "do without a control group where there is no permission to make one: true, false, or auto for an ordinary user")
	fs.StringVar(&a.criu, "criu", "", "the program criu, for checkpoint and restore; searched in $PATH unless told otherwise")
	version := fs.Bool("version", false, "print the version")
	fs.BoolVar(version, "v", false, "short for --version")
	return fs, func() error {
		if *version {
			return errVersion
		}
		if a.logFormat != "text" && a.logFormat != "json" {
			return fmt.Errorf("--log-format %q: must be text or json", a.logFormat)
		}
		if *systemd {
			a.manager = "systemd"
		}
		if !slices.Contains([]string{"cgroupfs", "systemd", "disabled"}, a.manager) {
			return fmt.Errorf("--cgroup-manager %q: must be cgroupfs, systemd or disabled", a.manager)
		}
		if *rootless == "auto" {
			a.rootless = ordinary()
			return nil
		}
		var err error
		if a.rootless, err = strconv.ParseBool(*rootless); err != nil {
			return fmt.Errorf("--rootless %q: must be true, false or auto", *rootless)
		}
		return nil
	}
}

// errVersion says that the version was asked for.
var errVersion = errors.New("version")

func (a *app) dispatch(args []string) error {
	fs, check := a.globals()
	if err := fs.Parse(args); err != nil {
		return err
	}
	switch err := check(); {
	case errors.Is(err, errVersion):
		fmt.Fprintf(a.stdout, "containr-runtime version %s\nspec: 1.3.0\n", Version)
		return nil
	case err != nil:
		return err
	}
	if fs.NArg() == 0 {
		a.usage()
		return errors.New("a verb is missing")
	}
	for _, v := range verbs {
		if v.name == fs.Arg(0) {
			err := v.run(a, fs.Args()[1:])
			if errors.Is(err, errUsage) {
				return fmt.Errorf("usage: containr-runtime %s %s", v.name, v.args)
			}
			return err
		}
	}
	if fs.Arg(0) == "help" {
		a.usage()
		return nil
	}
	return fmt.Errorf("unknown verb %q; containr-runtime help lists them", fs.Arg(0))
}

func (a *app) usage() {
	fmt.Fprint(a.stdout, "containr-runtime runs OCI bundles.\n\nUsage: containr-runtime [FLAG...] VERB [FLAG...] [ARGUMENT...]\n\nVerbs:\n")
	for _, v := range verbs {
		fmt.Fprintf(a.stdout, "  %-10s %s\n             %s\n", v.name, v.args, v.text)
	}
	fmt.Fprint(a.stdout, "\nFlags before the verb:\n")
	fs, _ := (&app{stderr: a.stdout}).globals()
	fs.SetOutput(a.stdout)
	fs.PrintDefaults()
}

// flags makes a verb's flag set.
func (a *app) flags(verb string) *flag.FlagSet {
	fs := flag.NewFlagSet(verb, flag.ContinueOnError)
	fs.SetOutput(a.stderr)
	if verb == "" {
		fs.Usage = a.usage
		return fs
	}
	fs.Usage = func() {
		for _, v := range verbs {
			if v.name == verb {
				fmt.Fprintf(a.stdout, "containr-runtime %s %s\n\n%s\n\n", v.name, v.args, v.text)
			}
		}
		fs.SetOutput(a.stdout)
		fs.PrintDefaults()
	}
	return fs
}

// ordinary reports whether the caller is an ordinary user, or root of such a one's user namespace, as podman is then.
func ordinary() bool { return os.Geteuid() != 0 || host.InUserNamespace() }

// defaultRoot is where state lives that does not outlive a boot.
func defaultRoot() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && ordinary() {
		return filepath.Join(dir, "containr-runtime")
	}
	if os.Geteuid() == 0 {
		return "/run/containr-runtime"
	}
	return fmt.Sprintf("/tmp/containr-runtime-%d", os.Geteuid())
}

func (a *app) runtime() (*runtime.Runtime, error) {
	facts, err := host.Probe()
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(a.root)
	if err != nil {
		return nil, err
	}
	return &runtime.Runtime{Root: root, Facts: facts, Warn: a.warn, KeepFilters: true}, nil
}

// one returns the single argument that a verb takes.
func one(fs *flag.FlagSet) (string, error) {
	if fs.NArg() != 1 {
		return "", errUsage
	}
	return fs.Arg(0), nil
}

// withID runs a verb whose only argument is an id.
func (a *app) withID(verb string, args []string, do func(r *runtime.Runtime, id string) error) error {
	return a.withFlags(a.flags(verb), args, do)
}

// withFlags is withID for a verb with flags.
func (a *app) withFlags(fs *flag.FlagSet, args []string, do func(r *runtime.Runtime, id string) error) error {
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
