package cli_test

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/containr/containr/internal/cli"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestEveryCommandAndFlagHasItsScript: whatever the command line can say, a script in testdata says
// once at least. A command that stands in two places, such as ps and container ls, is one, and create has
// the flags of run.
//
// What no script says yet is in testdata/unsaid.list, which can only become shorter: a new flag
// needs a script, and a line that is not true any more has to go.
func TestEveryCommandAndFlagHasItsScript(t *testing.T) {
	root := (&cli.Program{}).NewRoot()
	said := map[string]bool{}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			note(root, said, line)
		}
	}
	unsaid := map[string]bool{}
	for _, cmd := range all(root) {
		if cmd.Hidden || !cmd.Runnable() {
			continue
		}
		name := key(cmd)
		if cmd != root && !cmd.HasSubCommands() && !said[name] {
			unsaid[name] = true
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" && !said[name+" --"+f.Name] {
				unsaid[name+" --"+f.Name] = true
			}
		})
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !said["--"+f.Name] {
			unsaid["--"+f.Name] = true
		}
	})
	compareUnsaid(t, unsaid)
}

// compareUnsaid holds what no script says against the list of it.
func compareUnsaid(t *testing.T, unsaid map[string]bool) {
	t.Helper()
	const file = "testdata/unsaid.list"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		known[strings.TrimSpace(line)] = true
	}
	var left []string
	for _, what := range slices.Sorted(maps.Keys(unsaid)) {
		if known[what] {
			left = append(left, what)
			continue
		}
		t.Errorf("no script in testdata says containr %s", what)
	}
	if len(left) == len(known) {
		return
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(left, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, what := range slices.Sorted(maps.Keys(known)) {
		if !unsaid[what] {
			t.Errorf("a script says containr %s: -update takes it from %s", what, file)
		}
	}
}

func all(cmd *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		out = append(out, all(c)...)
	}
	return out
}

// key is the name of a command wherever it stands.
func key(cmd *cobra.Command) string {
	name := strings.TrimPrefix(cmd.CommandPath(), "containr ")
	if same, ok := elsewhere[name]; ok {
		return same
	}
	if rest, ok := strings.CutPrefix(name, "container "); ok && rest != "prune" && rest != "cleanup" && rest != "forward" && rest != "probe" {
		return rest
	}
	return name
}

// elsewhere are commands that are the same as others.
var elsewhere = map[string]string{
	"create": "run", "container create": "run",
	"container ls": "ps", "image ls": "images", "image rm": "rmi", "image pull": "pull", "image push": "push", "image load": "load",
	"image save": "save", "image import": "import", "image tag": "tag", "image untag": "untag", "image history": "history", "system info": "info",
}

// note takes down which command and which flags the words of a line are, wherever in it containr is called.
func note(root *cobra.Command, said map[string]bool, line string) {
	_, rest, ok := strings.Cut(line, "containr ")
	for ok {
		words := strings.Fields(rest)
		for i, w := range words {
			words[i] = strings.Trim(w, `'"`)
		}
		noteWords(root, said, words)
		_, rest, ok = strings.Cut(rest, "containr ")
	}
}

func noteWords(root *cobra.Command, said map[string]bool, words []string) {
	cmd := root
	for i := 0; i < len(words); i++ {
		w := words[i]
		name, isFlag := strings.CutPrefix(w, "--")
		name, _, hasValue := strings.Cut(name, "=")
		if isFlag {
			f := cmd.Flags().Lookup(name)
			if global := root.PersistentFlags().Lookup(name); f == nil && global != nil {
				said["--"+name] = true
				f = global
			}
			if f == nil {
				continue
			}
			said[key(cmd)+" --"+f.Name] = true
			if f.NoOptDefVal == "" && !hasValue {
				i++
			}
			continue
		}
		if strings.HasPrefix(w, "-") && len(w) > 1 {
			if noteShort(root, cmd, said, w[1:]) {
				i++
			}
			continue
		}
		sub := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == w || c.HasAlias(w) })
		if sub < 0 {
			if cmd.HasSubCommands() && cmd != root {
				return
			}
			continue // an argument; flags may follow where they may stand behind it
		}
		cmd = cmd.Commands()[sub]
		said[key(cmd)] = true
	}
}

// noteShort takes down a bundle of short flags, and reports whether the last one takes the next word.
func noteShort(root, cmd *cobra.Command, said map[string]bool, bundle string) (takesNext bool) {
	for i := range bundle {
		f := cmd.Flags().ShorthandLookup(bundle[i : i+1])
		if f == nil {
			if f = root.PersistentFlags().ShorthandLookup(bundle[i : i+1]); f == nil {
				return false
			}
			said["--"+f.Name] = true
		}
		said[key(cmd)+" --"+f.Name] = true
		if f.NoOptDefVal == "" {
			return i == len(bundle)-1
		}
	}
	return false
}
