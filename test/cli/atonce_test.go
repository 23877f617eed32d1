package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
)

// Commands on one state root do not disturb each other: the first to come takes the image in, all run, and images come
// and go meanwhile.
func TestManyAtOnce(t *testing.T) {
	program.Require(t)
	testkit.Leftovers(t)
	root := filepath.Join(t.TempDir(), "root")
	registry := newRegistry(t).Host()
	var all sync.WaitGroup
	run := func(want string, args ...string) {
		all.Go(func() {
			cmd := exec.Command("containr", args...)
			cmd.Env = append(os.Environ(), program.RootVar+"="+root)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			if out, err := cmd.Output(); err != nil || string(out) != want {
				t.Errorf("%s: %v, printed %q\n%s", strings.Join(args, " "), err, out, stderr.String())
			}
		})
	}
	for i := range 10 {
		run(fmt.Sprintf("%d\n", i), "run", "--rm", "base", "echo", fmt.Sprint(i))
	}
	for range 3 {
		run(registry+"/base:latest\n", "pull", registry+"/base")
		run("pulled\n", "run", "--rm", registry+"/base", "echo", "pulled")
		run("", "explain", "--diff", "run base true", "run base true")
	}
	all.Wait()
	for _, path := range program.LeftIn(root) {
		t.Errorf("left in the state root: %s", path)
	}
}

// Several processes that pull one image at the same time fetch each of its blobs once.
func TestPullsAtOnceFetchOnce(t *testing.T) {
	program.Require(t)
	testkit.Leftovers(t)
	root := filepath.Join(t.TempDir(), "root")
	registry := newRegistry(t)
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			cmd := exec.Command("containr", "pull", "--all-platforms", registry.Host()+"/base")
			cmd.Env = append(os.Environ(), program.RootVar+"="+root)
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
	all.Wait()
	base, err := baseContent()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range base.blobs {
		if len(b.Data) < 1<<20 {
			continue // a document, which may be asked for again
		}
		if n := len(registry.Requests(b.Digest.String())); n != 1 {
			t.Errorf("a layer was fetched %d times", n)
		}
	}
}
