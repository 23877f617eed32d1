// Package cli is containr's command line: flags to a request, answer to the
// terminal, hints.
//
// # Theory of operation
//
// Main builds the tree of commands, runs the one that was named, and turns its
// error into a message and an exit status. A command is one file: its flags are
// bound to the fields of a request struct of pkg/engine, its body calls one verb
// and prints the answer. Decisions are the engine's; grammars of flags are
// pkg/container's, which the API faces share; terminals are internal/tty's.
//
// A message has one line that says what was wrong, beginning with "containr: ",
// and may have a second one, a hint on what to do. Exit statuses are docker's:
// those of `run` are the program's own, 128 and the number of the signal that
// ended it, 127 if the program was not found, 126 if it could not be executed,
// 125 if containr failed. Other commands fail with 1, and with 125 if they were
// not understood.
//
// Starting has to be fast. So nothing is compiled, opened or read at package
// level, and a command opens only what it needs.
package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/config"
	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/processors"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/network/cni"
)

//go:generate go run ./gendocs ../../docs/cli ../../man

// Exit statuses of containr itself.
const (
	statusFailed = 1   // a command other than run failed
	statusUsage  = 125 // the command line was not understood, or run failed
)

// Version is what `containr version` prints; it is set when the program is linked.
var Version = "unknown"

// Program is one invocation of containr.
type Program struct {
	In             *os.File
	Out, Err       *os.File
	global         globalFlags
	args           []string       // the command line
	words          []string       // of it that are no flags
	config         []config.Value // of the files, if configRead
	configRead     bool
	origins        []config.Value // those that flags which were not given have
	interrupted    func() os.Signal
	stopInterrupts func()
	caught         chan struct{} // closed when interrupts are caught
	shown          *progress     // what is said of registries; nil until there is something to say
	showing        sync.Mutex    // held while shown is set
}

// globalFlags are those that every command takes.
type globalFlags struct {
	root        string
	debug       bool
	logLevel    string
	logFormat   string
	errorFormat string
	offline     bool
	snapshotter string
	// networkBackend, cniConf and cniBin: see engine.Options.
	networkBackend, cniConf string
	cniBin                  []string
}

// Main runs the command line and returns the exit status. args do not hold the
// program's name.
func (p *Program) Main(args []string) int {
	sys.GrowStack()
	ctx := p.handleInterrupts()
	defer p.stopInterrupts()
	root := p.newRoot(p.commandsIn(args))
	root.SetArgs(args)
	p.args = args
	if completing(args) {
		p.addCompletions(root)
	}
	p.words = slices.DeleteFunc(slices.Clone(args), func(w string) bool { return strings.HasPrefix(w, "-") })
	err := root.ExecuteContext(ctx)
	if sig := p.interrupted(); err != nil && sig != nil && errors.Is(err, context.Canceled) {
		return 128 + int(sig.(syscall.Signal))
	}
	return p.report(err)
}

// handleInterrupts returns a context that ends when we are told to end, so that
// what was begun is undone. It works until stopInterrupts is called.
func (p *Program) handleInterrupts() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	first := make(chan os.Signal, 1)
	stopped := make(chan struct{})
	p.caught = make(chan struct{})
	go func() { // to begin and to cease to catch signals takes Go's runtime a while
		signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
		close(p.caught)
		defer signal.Stop(signals)
		select {
		case sig := <-signals:
			select {
			case <-stopped: // it is somebody else's already
				return
			default:
			}
			first <- sig
			cancel()
			<-stopped
		case <-stopped:
		}
	}()
	p.interrupted = func() os.Signal {
		select {
		case sig := <-first:
			return sig
		default:
			return nil
		}
	}
	p.stopInterrupts = sync.OnceFunc(func() { close(stopped) })
	return ctx
}

// commands makes each of the commands, by its name. Making them all takes longer than
// much of what they do, so a run makes only those that its command line names.
var commands = []struct {
	name string
	make func(*Program) *cobra.Command
}{
	{"run", (*Program).runCommand},
	{"explain", (*Program).explainCommand},
	{"create", (*Program).createCommand},
	{"start", (*Program).startCommand},
	{"ps", (*Program).psCommand},
	{"logs", (*Program).logsCommand},
	{"exec", (*Program).execCommand},
	{"attach", (*Program).attachCommand},
	{"debug", (*Program).debugCommand},
	{"stop", (*Program).stopCommand},
	{"restart", (*Program).restartCommand},
	{"kill", (*Program).killCommand},
	{"pause", (*Program).pauseCommand},
	{"unpause", (*Program).unpauseCommand},
	{"wait", (*Program).waitCommand},
	{"top", (*Program).topCommand},
	{"inspect", (*Program).inspectCommand},
	{"port", (*Program).portCommand},
	{"rename", (*Program).renameCommand},
	{"rm", (*Program).removeCommand},
	{"events", (*Program).eventsCommand},
	{"stats", (*Program).statsCommand},
	{"capture", (*Program).captureCommand},
	{"cp", (*Program).copyFilesCommand},
	{"diff", (*Program).diffCommand},
	{"export", (*Program).exportCommand},
	{"commit", (*Program).commitCommand},
	{"update", (*Program).updateCommand},
	{"why", (*Program).whyCommand},
	{"where", (*Program).whereCommand},
	{"container", (*Program).containerCommand},
	{"pull", (*Program).pullCommand},
	{"push", (*Program).pushCommand},
	{"login", (*Program).loginCommand},
	{"logout", (*Program).logoutCommand},
	{"search", (*Program).searchCommand},
	{"images", (*Program).imagesCommand},
	{"rmi", (*Program).removeImageCommand},
	{"image", (*Program).imageCommand},
	{"save", (*Program).saveCommand},
	{"load", (*Program).loadCommand},
	{"import", (*Program).importCommand},
	{"tag", (*Program).tagCommand},
	{"untag", (*Program).untagCommand},
	{"manifest", (*Program).manifestCommand},
	{"artifact", (*Program).artifactCommand},
	{"sbom", (*Program).sbomCommand},
	{"registry", (*Program).registryCommand},
	{"history", (*Program).historyCommand},
	{"network", (*Program).networkCommand},
	{"volume", (*Program).volumeCommand},
	{"secret", (*Program).secretCommand},
	{"help", (*Program).helpCommand},
	{"system", (*Program).systemCommand},
	{"version", (*Program).versionCommand},
	{"info", (*Program).infoCommand},
	{"doctor", (*Program).doctorCommand},
	{"seccomp", (*Program).seccompCommand},
	{"security", (*Program).securityCommand},
	{"config", (*Program).configCommand},
	{"completion", (*Program).completionCommand},
	{"tour", (*Program).tourCommand},
}

// oneProcessor are the commands that leave it at the one processor that the entry of
// cmd/containr gives them. They do one thing after another; what they need threads for,
// pulling and unpacking, takes the others (internal/processors).
var oneProcessor = []string{"containr run", "containr create", "containr start", "containr exec",
	"containr container run", "containr container create", "containr container start", "containr container exec", "containr container cleanup"}

// commandsIn makes the commands whose names are words of the command line: the one
// that is meant is among them. If none is, it makes all, to list or to compare with.
func (p *Program) commandsIn(args []string) []*cobra.Command {
	if completing(args) || slices.Contains(args, "help") || slices.Contains(args, "config") || slices.Contains(args, "completion") {
		return p.allCommands()
	}
	var found []*cobra.Command
	for _, c := range commands {
		if slices.Contains(args, c.name) {
			found = append(found, c.make(p))
		}
	}
	if found == nil {
		return p.allCommands()
	}
	return found
}

func (p *Program) allCommands() []*cobra.Command {
	var all []*cobra.Command
	for _, c := range commands {
		all = append(all, c.make(p))
	}
	return all
}

// NewRoot builds the tree of all commands.
func (p *Program) NewRoot() *cobra.Command { return p.newRoot(p.allCommands()) }

// newRoot builds the tree of these commands.
func (p *Program) newRoot(commands []*cobra.Command) *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:   "containr COMMAND",
		Short: "Run containers, and see how",
		Long: "Run containers, and see how.\n\nA container is a program of system calls. `containr run` executes it,\n" +
			"`containr explain run` prints it.",
		Args:              cobra.ArbitraryArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 0:
				return unknownCommand(cmd, args[0], commandNames())
			case version:
				return p.printVersion()
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(oneProcessor, cmd.CommandPath()) {
				processors.All()
			}
			if err := p.configure(cmd, commandNames()); err != nil {
				return err
			}
			if err := p.global.apply(p.Err); err != nil {
				return err
			}
			_, err := p.doAmongIDs(cmd, args)
			return err
		},
	}
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true
	p.global.bind(root)
	root.AddGroup(&cobra.Group{ID: groupRun, Title: "Containers:"}, &cobra.Group{ID: groupImages, Title: "Images:"},
		&cobra.Group{ID: groupSystem, Title: "This machine:"})
	root.Flags().SetInterspersed(false) // what comes behind an unknown command is not for us
	root.Flags().BoolVarP(&version, "version", "v", false, "print the version")
	root.AddCommand(commands...)
	setHelp(root)
	return root
}

// Groups of commands in the help text.
const (
	groupRun    = "run"
	groupImages = "images"
	groupSystem = "system"
)

func (g *globalFlags) bind(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&g.root, "root", "", "keep everything below `DIR` instead of the usual places")
	f.StringVar(&g.root, "root-dir", "", "the same as --root")
	f.Lookup("root-dir").Hidden = true
	f.BoolVarP(&g.debug, "debug", "D", false, "print what is done, step by step")
	f.BoolVar(&g.offline, "offline", false, "ask no registry, as with CONTAINR_OFFLINE=1 in the environment")
	f.StringVar(&g.snapshotter, "snapshotter", host.AutoSnapshotter, "give new containers their root file systems by `NAME`: auto, overlay, btrfs, erofs (overlay; layers unpacked from now on are one file each, those that are there stay directories until rmi and pull unpack them anew), fuse-overlayfs (a program stacks the layers), native (copies)")
	f.StringVar(&g.snapshotter, "storage-driver", host.AutoSnapshotter, "the same as --snapshotter")
	f.Lookup("storage-driver").Hidden = true
	f.StringVar(&g.networkBackend, "network-backend", engine.BackendBuiltin, "have networks made by `NAME`: builtin; cni, by plugins, as --network cni:NAME always does; or netavark, podman's program, which makes those that were created with it")
	f.StringVar(&g.cniConf, "cni-conf-dir", cni.DefaultConf, "find the networks of plugins in `DIR`")
	f.StringArrayVar(&g.cniBin, "cni-bin-dir", cni.DefaultBin, "find plugins in `DIR`")
	f.StringVar(&g.logLevel, "log-level", "warn", "print messages from `LEVEL` on: debug, info (what happens to containers and images), warn, error")
	f.StringVar(&g.logFormat, "log-format", "text", "print messages as `FORMAT`: text or json")
	f.StringVar(&g.errorFormat, "error-format", "text", "print the error that ends the command as `FORMAT`: text or json, which has its code")
}

// apply sets up the log, which goes to standard error.
func (g *globalFlags) apply(w io.Writer) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(g.logLevel)); err != nil {
		return usageErrorf("--log-level %s: use debug, info, warn or error", g.logLevel)
	}
	if !slices.Contains(host.SnapshotterNames(), g.snapshotter) {
		return usageErrorf("--snapshotter %s: use %s", g.snapshotter, strings.Join(host.SnapshotterNames(), ", "))
	}
	if !slices.Contains(engine.NetworkBackends(), g.networkBackend) {
		return usageErrorf("--network-backend %s: use %s", g.networkBackend, strings.Join(engine.NetworkBackends(), ", "))
	}
	if g.errorFormat != "text" && g.errorFormat != "json" {
		return usageErrorf("--error-format %s: use text or json", g.errorFormat)
	}
	if g.debug {
		level = slog.LevelDebug
	}
	o := &slog.HandlerOptions{Level: level}
	switch g.logFormat {
	case "text":
		slog.SetDefault(slog.New(slog.NewTextHandler(w, o)))
	case "json":
		slog.SetDefault(slog.New(slog.NewJSONHandler(w, o)))
	default:
		return usageErrorf("--log-format %s: use text or json", g.logFormat)
	}
	return nil
}

// text is standard output for what others have a part in, such as labels of images: cleaned if it is a terminal, and as
// it is for scripts.
func (p *Program) text() io.Writer {
	if tty.IsTerminal(p.Out) {
		return present.Cleaner(p.Out)
	}
	return p.Out
}

// input is standard input for a command that reads all of it: until there is an end, or we are told to end.
func (p *Program) input(ctx context.Context) io.Reader {
	p.awaitCatching()
	return tty.Input(ctx, p.In)
}

// awaitCatching waits until signals are caught. It goes before a question as before any work: who interrupts it before
// then ends the program as it stands, and the terminal stays as the question set it.
func (p *Program) awaitCatching() {
	if p.caught != nil {
		<-p.caught
	}
}

// engine returns the engine that the global flags ask for, when what it begins would be
// undone if we were told to end.
func (p *Program) engine() (*engine.Engine, error) {
	p.awaitCatching()
	o := engine.Options{Network: container.NetworkBridge, Offline: p.global.offline, Snapshotter: p.global.snapshotter, Waits: p.showWait,
		NetworkBackend: p.global.networkBackend}
	root, err := absolute(p.global.root)
	conf, confErr := absolute(p.global.cniConf)
	o.Root, o.CNIConf, err = root, conf, errors.Join(err, confErr)
	for _, dir := range p.global.cniBin {
		bin, binErr := absolute(dir)
		o.CNIBin, err = append(o.CNIBin, bin), errors.Join(err, binErr)
	}
	return engine.New(o), err
}
