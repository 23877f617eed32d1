// Package ocicli is the command line of an OCI runtime: the verbs that podman,
// containerd and docker call, with the flags that they pass.
//
// # Theory of operation
//
// Main reads the global flags, then the verb, and hands the rest to the verb's
// function, which turns flags into one request of pkg/runtime and prints one answer.
// An error is printed as "containr-runtime: ..." on standard error, with a line that
// begins with "hint:" when pkg/runtime knows what to do, and written to the file of
// --log in the format that callers parse. The exit code is 1 for errors of our own;
// run and exec return the program's.
//
// The binary is lean, because it is started for every container: no library for
// command lines, nothing that starts slowly.
package ocicli

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

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
	// systemd makes the control groups of new containers.
	systemd bool
	// exit is the code to end with when there was no error.
	exit int
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
		{"state", "ID", "print the state as JSON", state},
		{"list", "[--format table|json] [--quiet]", "list the containers", list},
		{"kill", "[--all] ID [SIGNAL]", "send a signal, TERM unless told otherwise", kill},
		{"delete", "[--force] ID", "remove a stopped container", remove},
		{"exec", "[--process FILE] [--cwd DIR] [--env K=V] [--user UID[:GID]] [--tty] ID PROGRAM [ARG...]", "run a further process", execute},
		{"spec", "[--bundle DIR] [--rootless]", "write an example config.json", spec},
		{"features", "", "print what this runtime can do as JSON", featuresVerb},
		{"explain", "[--bundle DIR] [--chapters] ID", "print the plan of a bundle without running it", explain},
	}
}

// errUsage is answered with the usage text.
var errUsage = errors.New("usage")

// Main runs one command and returns the exit code.
func Main(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	err := a.dispatch(args)
	if err == nil {
		return a.exit
	}
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	a.report(err)
	return 1
}

func (a *app) report(err error) {
	fmt.Fprintln(a.stderr, "containr-runtime:", err)
	if hint := runtime.Hint(err); hint != "" {
		fmt.Fprintln(a.stderr, "hint:", hint)
	}
	if a.log != "" {
		a.writeLog("error", err)
	}
}

// warn tells of what went wrong without stopping anything.
func (a *app) warn(err error) {
	fmt.Fprintln(a.stderr, "containr-runtime: warning:", err)
	if a.log != "" {
		a.writeLog("warning", err)
	}
}

// writeLog appends the error to the log file as runc does: one line of text or JSON.
func (a *app) writeLog(level string, failure error) {
	f, err := os.OpenFile(a.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		fmt.Fprintln(a.stderr, "containr-runtime: log:", err)
		return
	}
	defer f.Close()
	now := time.Now().UTC().Format(time.RFC3339)
	if a.logFormat == "json" {
		line, _ := json.Marshal(map[string]string{"level": level, "msg": failure.Error(), "time": now}) // strings always encode
		_, err = f.Write(append(line, '\n'))
	} else {
		_, err = fmt.Fprintf(f, "time=%q level=%s msg=%q\n", now, level, failure.Error())
	}
	if err != nil {
		fmt.Fprintln(a.stderr, "containr-runtime: log:", err)
	}
}

func (a *app) dispatch(args []string) error {
	fs := a.flags("")
	fs.StringVar(&a.root, "root", defaultRoot(), "directory that the state is kept in")
	fs.StringVar(&a.log, "log", "", "file to write errors to")
	fs.StringVar(&a.logFormat, "log-format", "text", "text or json")
	fs.BoolVar(&a.debug, "debug", false, "print every step with its result and time")
	fs.BoolVar(&a.systemd, "systemd-cgroup", false, "ask systemd for the control group; cgroupsPath is slice:prefix:name")
	version := fs.Bool("version", false, "print the version")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if a.logFormat != "text" && a.logFormat != "json" {
		return fmt.Errorf("--log-format %q: must be text or json", a.logFormat)
	}
	if *version {
		fmt.Fprintf(a.stdout, "containr-runtime version %s\nspec: 1.3.0\n", Version)
		return nil
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
	fmt.Fprint(a.stdout, "containr-runtime runs OCI bundles.\n\nUsage: containr-runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] VERB\n\nVerbs:\n")
	for _, v := range verbs {
		fmt.Fprintf(a.stdout, "  %-9s %s\n            %s\n", v.name, v.args, v.text)
	}
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

// defaultRoot is where state lives that does not outlive a boot.
func defaultRoot() string {
	if os.Geteuid() == 0 {
		return "/run/containr-runtime"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "containr-runtime")
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
	return &runtime.Runtime{Root: root, Facts: facts, Warn: a.warn}, nil
}

// one returns the single argument that a verb takes.
func one(fs *flag.FlagSet) (string, error) {
	if fs.NArg() != 1 {
		return "", errUsage
	}
	return fs.Arg(0), nil
}
