package cli_test

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
	"github.com/containr/containr/pkg/host"
)

// Commands that change images are killed at any moment, two at a time. The next command frees what they left, and a check
// of everything on disk, blob by blob, finds nothing wrong.
func TestKilledCommandsLeaveNothing(t *testing.T) {
	program.Require(t)
	t.Run("directories", func(t *testing.T) { killAll(t) })
	// Chains have both kinds of layers: what each command unpacks depends on chance.
	t.Run("images", func(t *testing.T) {
		if ok, err := condition("erofs"); err != nil || !ok {
			t.Skipf("skipped: no EROFS images can be used here: %v", err)
		}
		killAll(t, host.ErofsSnapshotter, host.ErofsSnapshotter, host.OverlaySnapshotter)
	})
}

// killAll does so; each command has one of the snapshotters, or that which there is.
func killAll(t *testing.T, snapshotters ...string) {
	testkit.Leftovers(t)
	const seed, lasts = 20261129, 25 * time.Second
	k := newKiller(t)
	random := rand.New(rand.NewPCG(seed, seed))
	within := 40 * time.Millisecond
	if len(snapshotters) > 0 {
		k.addLayers(snapshotters)
		within = 80 * time.Millisecond // containers are begun and ended, too
	}
	rounds := 0
	for began := time.Now(); time.Since(began) < lasts; rounds++ {
		if len(snapshotters) > 0 && rounds%2 == 0 {
			k.unpack()
		}
		lines := k.round(random, within)
		if out, err := k.run("image", "prune", "-f"); err != nil {
			t.Fatalf("round %d, after %q: prune: %v\n%s", rounds, lines, err, out)
		}
		if out, err := k.run("system", "check"); err != nil || out != "" {
			t.Fatalf("round %d, after %q: check: %v\n%s", rounds, lines, err, out)
		}
		if images, err := filepath.Glob(filepath.Join(k.root, "snapshots/sha256/*/layer.erofs")); err != nil || len(images) > 0 {
			k.images++
		}
	}
	k.wasKilling(rounds)
	t.Logf("images were there after %d rounds", k.images)
	if len(snapshotters) > 0 && k.images < rounds/4 {
		t.Errorf("after %d of %d rounds there were images: hardly anything was tested", k.images, rounds)
	}
	if out, err := k.run("run", "--rm", "base", "echo", "well"); err != nil || out != "well\n" {
		t.Errorf("in the end: %v, %q", err, out)
	}
	removeContainers(t, k.root)
	if out, err := k.run("system", "prune", "-af"); err != nil {
		t.Errorf("prune: %v, %q", err, out)
	}
	for _, path := range program.LeftIn(k.root) {
		if !strings.Contains(path, "/ingest/sha256-") { // a pull that was cut off goes on there
			t.Errorf("left in the state root: %s", path)
		}
	}
}

// killer starts commands on one state root.
type killer struct {
	t        *testing.T
	root     string
	commands [][]string
	killed   int // how many commands were killed before they had ended
	// snapshotters are those of which commands get one each; images counts rounds after which there were EROFS images.
	snapshotters []string
	images       int
	archive      string // of the chain of two layers
}

// round starts two commands at a time and kills them after at most this long. It returns what they were.
func (k *killer) round(random *rand.Rand, within time.Duration) (lines []string) {
	k.t.Helper()
	var victims []*exec.Cmd
	for range 2 {
		line := k.commands[random.IntN(len(k.commands))]
		lines = append(lines, strings.Join(line, " "))
		victims = append(victims, k.start(k.with(random, line)))
	}
	time.Sleep(time.Duration(random.Int64N(int64(within)))) // when they are killed, not what is waited for
	for _, v := range victims {
		v.Process.Kill()
	}
	for _, v := range victims {
		if v.Wait(); !v.ProcessState.Exited() {
			k.killed++
		}
	}
	return lines
}

// wasKilling looks whether enough of the commands of some rounds were killed.
func (k *killer) wasKilling(rounds int) {
	k.t.Helper()
	k.t.Logf("%d rounds, %d commands killed", rounds, k.killed)
	if k.killed < rounds/4 {
		k.t.Error("hardly a command was killed: nothing was tested")
	}
}

// newKiller makes what the commands work on.
func newKiller(t *testing.T) *killer {
	dir := t.TempDir()
	k := &killer{t: t, root: filepath.Join(dir, "root")}
	archive, tree := filepath.Join(dir, "images.tar"), filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "file"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run", "--rm", "base", "true"}, {"import", tree, "mine:1"}, {"save", "-o", archive, "base", "mine:1"}} {
		if out, err := k.run(args...); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	registry := newRegistry(t).Host()
	k.commands = [][]string{
		{"load", "-i", archive}, {"load", "-i", archive, "--platform", "linux/arm64"},
		{"import", tree, "mine:2"}, {"tag", "mine:1", "mine:3"}, {"tag", "base", "other"}, {"untag", "mine:1"},
		{"rmi", "mine:1"}, {"rmi", "-f", "base"}, {"rmi", "mine:2", "mine:3", "other"},
		{"image", "prune", "-af"}, {"system", "prune", "-af"}, {"pull", "-q", registry + "/base"}, {"rmi", registry + "/base"},
		{"push", "-q", "mine:1", registry + "/pushed:1"}, {"push", "-q", "base", registry + "/pushed:base"},
		{"save", "-o", filepath.Join(dir, "out.tar"), "mine:1"}, {"image", "diff", "base", "mine:1"},
		{"image", "copy", "docker://" + registry + "/base", "oci:" + filepath.Join(dir, "layout")},
		{"image", "copy", "oci-archive:" + archive + ":mine:1", "dir:" + filepath.Join(dir, "flat")},
		{"image", "copy", "docker://" + registry + "/base", "containr:copied"},
		{"image", "sync", "docker://" + registry + "/base:latest", "dir:" + filepath.Join(dir, "synced")},
	}
	return k
}

// addLayers adds commands that unpack and use a chain of two layers.
func (k *killer) addLayers(snapshotters []string) {
	k.t.Helper()
	k.snapshotters = snapshotters
	k.archive = filepath.Join(filepath.Dir(k.root), "two.tar")
	archive := k.archive
	for _, args := range [][]string{
		{"run", "--name", "changed", "base", "sh", "-c", "echo new > /new; rm /etc/group"}, {"commit", "changed", "two:1"}, {"rm", "changed"},
		{"save", "-o", archive, "two:1"}, {"rmi", "two:1"},
	} {
		if out, err := k.run(args...); err != nil {
			k.t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	more := [][]string{
		{"load", "-i", archive}, {"image", "diff", "base", "two:1"}, {"run", "--rm", "two:1", "cat", "/new"}, {"run", "--rm", "base", "true"},
		{"run", "--rm", "--mount", "type=image,source=two:1,target=/two", "base", "cat", "/two/new"}, {"rmi", "-f", "two:1"},
	}
	k.commands = slices.Concat(k.commands, more, more, more, more)
}

// unpack lets the chain's layers be there as EROFS images, whatever was killed or removed before: chance alone, on a slow machine,
// hardly ever lets a command come so far.
func (k *killer) unpack() {
	k.t.Helper()
	for _, args := range [][]string{{"load", "-i", k.archive}, {"--snapshotter", host.ErofsSnapshotter, "run", "--rm", "two:1", "true"}} {
		if out, err := k.run(args...); err != nil {
			k.t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
}

// with gives a command a snapshotter, if there are some.
func (k *killer) with(random *rand.Rand, line []string) []string {
	if len(k.snapshotters) == 0 {
		return line
	}
	return append([]string{"--snapshotter", k.snapshotters[random.IntN(len(k.snapshotters))]}, line...)
}

func (k *killer) command(args []string) *exec.Cmd {
	cmd := exec.Command("containr", args...)
	cmd.Env = append(os.Environ(), program.RootVar+"="+k.root)
	return cmd
}

func (k *killer) start(args []string) *exec.Cmd {
	cmd := k.command(args)
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	return cmd
}

func (k *killer) run(args ...string) (string, error) {
	out, err := k.command(args).CombinedOutput()
	return string(out), err
}
