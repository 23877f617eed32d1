package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// TestCompatibilityIsCurrent: docs/compatibility.md says of docker's flags what the commands have. So it cannot say of a flag
// that is there that it is absent, nor the other way round.
func TestCompatibilityIsCurrent(t *testing.T) {
	want, err := compatPage()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "compatibility.md"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/compatibility.md is not current; go generate ./internal/cli writes it anew (-want +got):\n%s", diff)
	}
}

// TestCompare holds a made-up command against flags of docker's.
func TestCompare(t *testing.T) {
	root := &cobra.Command{Use: "containr"}
	group := &cobra.Command{Use: "image"}
	cmd := &cobra.Command{Use: "ls"}
	hidden := &cobra.Command{Use: "secret", Hidden: true}
	root.AddCommand(group, hidden)
	group.AddCommand(cmd)
	cmd.Flags().BoolP("all", "a", false, "")
	cmd.Flags().Bool("quiet", false, "")
	cmd.Flags().Bool("mine", false, "")
	cmd.Flags().IntP("time", "t", 0, "") // the word that is ours, of which docker's is another name
	cmd.Flags().Int("timeout", 0, "")
	if err := cmd.Flags().MarkHidden("timeout"); err != nil {
		t.Fatal(err)
	}
	all, err := parseDocker("# x\n\ncommand image ls: -a,--all -q,--quiet --tree --digests -t,--timeout\nnote image ls --tree: no trees here\nnote image ls: some\ncommand other:\n")
	if err != nil || len(all) != 2 || all[0].note != "some" {
		t.Fatalf("%+v, error %v", all, err)
	}
	var got []judgement
	for _, f := range all[0].flags {
		got = append(got, compare(ours(root, all[0].name), f))
	}
	want := []judgement{{"-a, --all", same, ""}, {"-q, --quiet", different, "without its short form"}, {"--tree", absent, "no trees here"}, {"--digests", absent, "not yet"}, {"-t, --timeout", same, ""}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(judgement{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if more := own(cmd, all[0]); strings.Join(more, " ") != "`--mine` `--time`" {
		t.Errorf("containr's own are %v", more)
	}
	var table, details strings.Builder
	writeComparison(&table, &details, all[0], cmd)
	if !strings.Contains(details.String(), "\n### image ls\n\nSome.\n") {
		t.Errorf("what is said of the whole command is not there:\n%s", details.String())
	}
	for name, there := range map[string]bool{"image ls": true, "image": true, "docker": true, "secret": false, "image rm": false} {
		if (ours(root, name) != nil) != there {
			t.Errorf("%s is there: %v", name, !there)
		}
	}
	all, err = parseDocker("command a: -x,--long --other\nnote a --long: so\nlike b a: --other\n")
	if err != nil || len(all) != 2 || len(all[1].flags) != 1 || all[1].flags[0] != (dockerFlag{"x", "long", "so"}) {
		t.Errorf("like another: %+v, error %v", all, err)
	}
	for _, bad := range []string{"command x", "nonsense", "note x: y", "command x:\nnote x --y: z", "note x:", "like b a:"} {
		if _, err := parseDocker(bad); err == nil {
			t.Errorf("%q is read without an error", bad)
		}
	}
}
