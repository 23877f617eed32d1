package cli

import (
	"bytes"
	_ "embed"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/errcode"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/secret"
	"github.com/containr/containr/pkg/volume"
)

// Completion works like this: the script that `completion` prints has the shell run `containr __complete` with the
// words typed so far, which cobra answers out of the commands and flags. What it cannot know, names of containers,
// images and so on, and the values of flags, is added here, and only for that hidden command. Which arguments are names is
// read from the command's line of usage, so that a new command is completed by what its help says.

// completing reports whether the command line is a question of a shell.
func completing(args []string) bool {
	return slices.Contains(args, cobra.ShellCompRequestCmd) || slices.Contains(args, cobra.ShellCompNoDescRequestCmd)
}

func (p *Program) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "Print what makes a shell complete containr's words",
		GroupID:   groupSystem,
		Args:      exactArgs(1),
		ValidArgs: shells,
		Long: "Print a script that makes a shell complete commands, flags, their values, and the names of\n" +
			"containers, images, networks, volumes, secrets and configs. SHELL is bash, zsh or fish. `make install` puts the scripts where the\n" +
			"shells look for them.",
		Example: "  source <(containr completion bash)",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := completionScript(cmd.Root(), args[0])
			if err != nil {
				return err
			}
			_, err = p.Out.Write(text)
			return err
		},
	}
}

var shells = []string{"bash", "zsh", "fish"}

// bashWords stands in for a function of the package bash-completion, where that is not installed.
//
//go:embed completion.bash
var bashWords string

func completionScript(root *cobra.Command, shell string) ([]byte, error) {
	var b bytes.Buffer
	var err error
	switch shell {
	case "bash":
		b.WriteString(bashWords)
		err = root.GenBashCompletionV2(&b, true)
	case "zsh":
		err = root.GenZshCompletion(&b)
	case "fish":
		err = root.GenFishCompletion(&b, true)
	default:
		err = usageErrorf("completion %s: use bash, zsh or fish", shell)
	}
	return b.Bytes(), err
}

// addCompletions has every command below one complete its arguments and the values of its flags.
func (p *Program) addCompletions(root *cobra.Command) {
	for _, cmd := range withThoseBelow(root) {
		if cmd.ValidArgsFunction == nil && cmd.ValidArgs == nil && !cmd.HasSubCommands() {
			cmd.ValidArgsFunction = p.completeArgument
		}
		for name, values := range flagValues {
			if cmd.LocalFlags().Lookup(name) == nil {
				continue
			}
			// The error would say that the flag has a function already.
			_ = cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
				return values(p, cmd, begun)
			})
		}
	}
}

// completeArgument completes the argument of a command by what its line of usage calls it.
func (p *Program) completeArgument(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if cmd.Name() == "explain" && len(args) == 0 {
		return explainable(), cobra.ShellCompDirectiveNoFileComp
	}
	name := argumentName(cmd.Use, len(args))
	if cmd.Name() == "create" && name != "IMAGE" { // a name of what is not there yet
		return nil, cobra.ShellCompDirectiveDefault
	}
	switch name {
	case "CONTAINER":
		return without(p.names(cmd, (*engine.Engine).ContainerNames), args), cobra.ShellCompDirectiveNoFileComp
	case "NETWORK":
		return without(p.names(cmd, (*engine.Engine).NetworkNames), args), cobra.ShellCompDirectiveNoFileComp
	case "VOLUME":
		return without(p.names(cmd, (*engine.Engine).VolumeNames), args), cobra.ShellCompDirectiveNoFileComp
	case "SECRET":
		return without(p.names(cmd, secretNames(secret.Secrets)), args), cobra.ShellCompDirectiveNoFileComp
	case "CONFIG":
		return without(p.names(cmd, secretNames(secret.Configs)), args), cobra.ShellCompDirectiveNoFileComp
	case "IMAGE":
		return without(p.imageNames(cmd), args), cobra.ShellCompDirectiveNoFileComp
	case "COMMAND":
		if cmd.Name() == "help" {
			return namesOf(cmd.Root().Commands()), cobra.ShellCompDirectiveNoFileComp
		}
	case "":
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// argumentName is what a line of usage calls the argument at a position: "CONTAINER" for every position of
// "rm [FLAGS] CONTAINER...", and "" behind the last.
func argumentName(usage string, position int) string {
	words := strings.Fields(usage)[1:]
	words = slices.DeleteFunc(words, func(w string) bool { return w == "[FLAGS]" || w == "[flags]" })
	for i, w := range words {
		name := strings.Trim(w, "[].")
		if i == position || i < position && strings.Contains(w, "...") {
			return name
		}
	}
	return ""
}

// explainable are the words that may follow explain.
func explainable() []string {
	words := []string{"run", "pull"}
	for _, e := range errcode.All() {
		words = append(words, cobra.CompletionWithDesc(e.Code, e.Title))
	}
	return words
}

func without(names, taken []string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(taken, n) })
}

// storeIsThere returns the engine if there is a state root. A question of a shell makes none, and gets no errors.
func (p *Program) storeIsThere(cmd *cobra.Command) (*engine.Engine, bool) {
	if p.configure(cmd, namesOf(cmd.Root().Commands())) != nil {
		return nil, false
	}
	e, err := p.engine()
	if err != nil {
		return nil, false
	}
	_, err = os.Stat(filepath.Join(e.Root(), "content"))
	return e, err == nil
}

// names asks the engine for names, if there is a state root, and returns those that could be read.
func (p *Program) names(cmd *cobra.Command, of func(*engine.Engine) ([]string, error)) []string {
	e, ok := p.storeIsThere(cmd)
	if !ok {
		return nil
	}
	names, _ := of(e)
	return names
}

func secretNames(kind *secret.Kind) func(*engine.Engine) ([]string, error) {
	return func(e *engine.Engine) ([]string, error) { return e.SecretNames(kind) }
}

func (p *Program) imageNames(cmd *cobra.Command) []string {
	e, ok := p.storeIsThere(cmd)
	if !ok {
		return []string{"base"}
	}
	names, _ := e.ImageNames()
	return names
}

// valuesOf completes the value of a flag.
type valuesOf func(p *Program, cmd *cobra.Command, begun string) ([]string, cobra.ShellCompDirective)

// oneOf completes one of some words.
func oneOf(words ...string) valuesOf {
	return func(*Program, *cobra.Command, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// listed is oneOf, of words that are found when they are needed.
func listed(words func() []string) valuesOf {
	return func(*Program, *cobra.Command, string) ([]string, cobra.ShellCompDirective) {
		return words(), cobra.ShellCompDirectiveNoFileComp
	}
}

// begins completes words after which something more is typed.
func begins(words ...string) valuesOf {
	return func(*Program, *cobra.Command, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// named completes names that the engine knows, after which something follows. If none fits, a shell completes files.
func named(of func(*engine.Engine) ([]string, error), follows string) valuesOf {
	return func(p *Program, cmd *cobra.Command, _ string) ([]string, cobra.ShellCompDirective) {
		names := p.names(cmd, of)
		if follows == "" {
			return names, cobra.ShellCompDirectiveNoFileComp
		}
		for i := range names {
			names[i] += follows
		}
		return names, cobra.ShellCompDirectiveNoSpace
	}
}

// joinPrefix comes before the container whose namespace is meant.
const joinPrefix = "container:"

// namespaceValues completes words, and containers whose namespace is meant.
func namespaceValues(words ...string) valuesOf {
	return func(p *Program, cmd *cobra.Command, begun string) ([]string, cobra.ShellCompDirective) {
		values := slices.Clone(words)
		if strings.HasPrefix(begun, joinPrefix) {
			for _, name := range p.names(cmd, (*engine.Engine).ContainerNames) {
				values = append(values, joinPrefix+name)
			}
			return values, cobra.ShellCompDirectiveNoFileComp
		}
		return append(values, joinPrefix), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// networkValues completes kinds and names of networks.
func networkValues(p *Program, cmd *cobra.Command, begun string) ([]string, cobra.ShellCompDirective) {
	values, directive := namespaceValues("none", "host", "bridge", "builtin", "pasta", "slirp4netns")(p, cmd, begun)
	return append(values, p.names(cmd, (*engine.Engine).NetworkNames)...), directive
}

// drivers completes who makes or keeps what a command creates.
func drivers(_ *Program, cmd *cobra.Command, _ string) ([]string, cobra.ShellCompDirective) {
	words := map[string][]string{
		"network": {"bridge", "macvlan", "ipvlan"}, "volume": {volume.DriverLocal}, "secret": {secret.DriverFile}, "config": {secret.DriverFile},
	}
	return words[cmd.Parent().Name()], cobra.ShellCompDirectiveNoFileComp
}

func directory(*Program, *cobra.Command, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// variables completes names of the environment's variables.
func variables(*Program, *cobra.Command, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func ulimits(*Program, *cobra.Command, string) ([]string, cobra.ShellCompDirective) {
	names := container.UlimitNames()
	for i := range names {
		names[i] += "="
	}
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// flagValues are the values of flags, by their names, of whichever command.
var flagValues = map[string]valuesOf{
	"annotation":        begins(),
	"as":                oneOf("config", "spec", "plan", "words", "json", "shell", "elf"),
	"cap-add":           listed(container.CapabilityNames),
	"cap-drop":          listed(container.CapabilityNames),
	"cgroupns":          oneOf("private", "host"),
	"env":               variables,
	"error-format":      oneOf("text", "json"),
	"format":            oneOf("json"),
	"ipc":               namespaceValues("private", "host", "shareable", "none"),
	"log-format":        oneOf("text", "json"),
	"log-level":         oneOf("debug", "info", "warn", "error"),
	"mount":             begins("type=bind,source=", "type=tmpfs,target=", "type=volume,source=", "type=image,source="),
	"network-backend":   oneOf(engine.NetworkBackends()...),
	"cni-conf-dir":      directory,
	"cni-bin-dir":       directory,
	"attach":            oneOf("stdin", "stdout", "stderr"),
	"compression":       oneOf("gzip", "zstd", "none"),
	"config":            named(secretNames(secret.Configs), ""),
	"driver":            drivers,
	"fail-on":           oneOf("warn", "high"),
	"graph":             oneOf(graphForms...),
	"health-on-failure": oneOf("none", "kill", "restart", "stop"),
	"image":             named((*engine.Engine).ImageNames, ""),
	"in":                named((*engine.Engine).ContainerNames, ""),
	"net":               networkValues,
	"network":           networkValues,
	"pid":               namespaceValues("private", "host"),
	"secret":            named(secretNames(secret.Secrets), ""),
	"snapshotter":       oneOf("auto", "overlay", "btrfs", "erofs", "fuse-overlayfs", "native"),
	"volume":            named((*engine.Engine).VolumeNames, ":"),
	"volumes-from":      named((*engine.Engine).ContainerNames, ""),
	"platform":          oneOf("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/riscv64", "linux/ppc64le", "linux/s390x"),
	"pull":              oneOf(container.PullAlways, container.PullMissing, container.PullNever),
	"log-driver":        oneOf("json-file", "local", "syslog", "journald", "gelf", "fluentd", "none"),
	"restart":           oneOf("no", "always", "on-failure", "on-unhealthy", "unless-stopped"),
	"root":              directory,
	"rootfs":            directory,
	"security-opt":      begins("no-new-privileges", "seccomp=", "seccomp=default", "seccomp=strict", "seccomp=unconfined", "systempaths=unconfined", "landlock=", "apparmor=", "label="),
	"signal":            listed(container.SignalNames),
	"stop-signal":       listed(container.SignalNames),
	"ulimit":            ulimits,
	"userns":            namespaceValues("auto", "keep-id", "nomap", "private", "host"),
	"uts":               namespaceValues("private", "host"),
	"zoom":              oneOf("chapters", "steps", "words"),
}
