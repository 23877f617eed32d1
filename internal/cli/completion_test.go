package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestArgumentName(t *testing.T) {
	for _, c := range []struct {
		usage    string
		position int
		want     string
	}{
		{"rm [FLAGS] CONTAINER...", 0, "CONTAINER"}, {"rm [FLAGS] CONTAINER...", 3, "CONTAINER"},
		{"run [FLAGS] IMAGE [COMMAND] [ARG...]", 0, "IMAGE"}, {"run [FLAGS] IMAGE [COMMAND] [ARG...]", 1, "COMMAND"},
		{"run [FLAGS] IMAGE [COMMAND] [ARG...]", 7, "ARG"}, {"tag IMAGE NAME", 2, ""}, {"images [FLAGS]", 0, ""},
	} {
		if got := argumentName(c.usage, c.position); got != c.want {
			t.Errorf("%q, %d: %q, want %q", c.usage, c.position, got, c.want)
		}
	}
}

// TestCompletedFlagsExist: a flag that has values to complete is one of some command, and takes these values.
func TestCompletedFlagsExist(t *testing.T) {
	p := &Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	flags := map[string]bool{}
	for _, cmd := range withThoseBelow(p.NewRoot()) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
	}
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	newRunFlags(set)
	for name, values := range flagValues {
		if !flags[name] {
			t.Errorf("--%s has values, and is a flag of no command", name)
		}
		cmd := &cobra.Command{}
		(&cobra.Command{}).AddCommand(cmd)
		words, directive := values(p, cmd, "")
		if set.Lookup(name) == nil || directive&cobra.ShellCompDirectiveNoSpace != 0 || name == "env" {
			continue
		}
		for _, w := range words {
			if err := set.Set(name, w); err != nil {
				t.Errorf("--%s is completed to %s, and does not take it: %v", name, w, err)
			}
		}
	}
}

// TestCompletion asks what shells ask. Without a state root none is made.
func TestCompletion(t *testing.T) {
	root := t.TempDir() + "/none"
	for _, c := range []struct{ line, has, lacks string }{
		{"r", "run\tRun a program", "images"},
		{"run --root " + root + " ", "base", "run"},
		{"run --cap-add ", "NET_ADMIN", "CAP_NET_ADMIN"},
		{"run --ulimit ", "nofile=", "host"},
		{"--log-level ", "warn", "loud"},
		{"explain ", "CTR-4001\tthe interpreter", "CTR-9999"},
		{"image --root " + root + " rm ", "base", ""},
		{"help ", "doctor", "CTR-0001"},
		{"completion ", "zsh", "powershell"},
		{"info ", ":4", "base"},
		{"run --pid ", "container:", "container:web"},
		{"run --network ", "slirp4netns", "overlay"},
		{"network create --driver ", "macvlan", "local"},
		{"volume create --driver ", "local", "macvlan"},
		{"network inspect --graph=", "dot", "svg"},
		{"security check --fail-on ", "high", "low"},
		{"run -v ", ":2", "base"},
	} {
		words := strings.Split(c.line, " ")
		got := invoke(t, append([]string{cobra.ShellCompRequestCmd}, words...)...)
		lines := strings.Split(got.out, "\n")
		if !strings.Contains(got.out, c.has) || c.lacks != "" && slices.Contains(lines, c.lacks) {
			t.Errorf("%q: %q", c.line, got.out)
		}
	}
	if _, err := os.Stat(root); !os.IsNotExist(err) {
		t.Errorf("a question has made the state root: %v", err)
	}
}
