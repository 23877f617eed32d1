package cli_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
)

var (
	volumeKills = flag.Int("volume-kills", 100, "how many commands TestKilledCommandsLeaveVolumesWhole kills")
	volumeSeed  = flag.Uint64("volume-seed", 20261130, "which commands it kills, and when")
)

// Commands that make, fill, copy and remove volumes are killed at any moment, two at a time. No volume is ever half there,
// the one that is never touched keeps all of its files, nobody else can look into the store, and a check of the disk finds
// nothing wrong with volumes.
func TestKilledCommandsLeaveVolumesWhole(t *testing.T) {
	program.Require(t)
	testkit.Leftovers(t)
	dir := t.TempDir()
	k := &killer{t: t, root: filepath.Join(dir, "root")}
	archive := filepath.Join(dir, "full.tar")
	const many = 40 // files of the volume full
	for _, args := range [][]string{
		{"run", "--name", "owner", "-v", "full:/full", "-v", "copied:/copied", "base", "sh", "-c", "for i in $(seq 40); do echo $i > /full/$i; done"},
		{"run", "--rm", "-v", "conf:/etc", "base", "true"},
		nil, // see below
		{"volume", "snapshot", "full", "keep"}, {"volume", "export", "-o", archive, "full"},
	} {
		if args == nil {
			k.colorFiles(filepath.Join(k.root, "volumes", "full", "data"))
			continue
		}
		if out, err := k.run(args...); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	for _, letter := range letters {
		for i := range many {
			path := filepath.Join(dir, letter, strconv.Itoa(i))
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, bytes.Repeat([]byte(letter), copiedSize), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.commands = [][]string{
		{"volume", "cp", filepath.Join(dir, "a") + "/.", "copied:/"}, {"volume", "cp", filepath.Join(dir, "b") + "/.", "copied:/"},
		{"run", "--rm", "-v", "conf:/etc", "-v", "/scratch", "base", "true"}, {"run", "--rm", "-v", "conf:/etc", "--user", "1:1", "base", "true"},
		{"volume", "create", "empty"}, {"volume", "rm", "conf", "clone", "import", "empty"},
		{"volume", "clone", "full", "clone"}, {"volume", "import", "import", archive}, {"volume", "restore", "full@keep"},
		{"volume", "snapshot", "full"}, {"volume", "prune", "-af"},
	}
	etc := k.readTree(filepath.Join(k.root, "volumes", "conf", "data"))
	if len(etc) < 3 {
		t.Fatalf("what the image has in /etc: %d files", len(etc))
	}
	random := rand.New(rand.NewPCG(*volumeSeed, *volumeSeed))
	rounds := 0
	for ; k.killed < *volumeKills; rounds++ {
		if rounds > 20**volumeKills {
			break // wasKilling tells
		}
		lines := k.round(random, 60*time.Millisecond)
		k.volumesAreWhole(lines, many, etc)
		if out, err := k.run("volume", "prune", "-f"); err != nil {
			t.Fatalf("round %d, after %q: prune: %v\n%s", rounds, lines, err, out)
		}
		// The layer of a container that was killed while it was removed is found by this as well, and taken away.
		if out, _ := k.run("system", "check", "--repair"); strings.Contains(out, "volume") {
			t.Fatalf("round %d, after %q: check:\n%s", rounds, lines, out)
		}
		if _, err := os.Stat(filepath.Join(k.root, "volumes", "full", "data", "1")); err != nil {
			t.Fatalf("round %d, after %q: %v", rounds, lines, err)
		}
		if left, _ := filepath.Glob(filepath.Join(k.root, "volumes", "*", "fill-*")); len(left) > 0 {
			t.Fatalf("round %d, after %q: prune leaves %q", rounds, lines, left)
		}
	}
	k.wasKilling(rounds)
	removeContainers(t, k.root)
	if out, err := k.run("volume", "prune", "-af"); err != nil {
		t.Errorf("prune: %v, %q", err, out)
	}
	entries, err := os.ReadDir(filepath.Join(k.root, "volumes"))
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "full@") { // no prune takes snapshots
			t.Errorf("left: %s", e.Name())
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// letters are what the files are full of that are copied into the volume copied, each of copiedSize bytes.
var letters = []string{"a", "b"}

const copiedSize = 300 << 10

// filesAreWhole looks at files that are copied over each other: each is one of both.
func (k *killer) filesAreWhole(after []string, dir string, entries []os.DirEntry) {
	k.t.Helper()
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || len(data) != copiedSize || bytes.Count(data, data[:1]) != copiedSize {
			k.t.Fatalf("after %q: %s has %d bytes, %v", after, e.Name(), len(data), err)
		}
	}
}

// colorFiles gives files other owners, modes and attributes than they have by themselves.
func (k *killer) colorFiles(dir string) {
	k.t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		err = errors.Join(err, os.Chown(f, 33, 34), os.Chmod(f, 0o640), unix.Setxattr(f, colorXattr, []byte("blue"), 0))
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

// volumesAreWhole looks at all volumes that there are.
func (k *killer) volumesAreWhole(after []string, many int, etc map[string]string) {
	k.t.Helper()
	store := filepath.Join(k.root, "volumes")
	if info, err := os.Lstat(store); err != nil || info.Mode() != fs.ModeDir|0o700 {
		k.t.Fatalf("after %q: others look into the store: %v, %v", after, info.Mode(), err)
	}
	numbers := map[string]string{}
	for i := range many {
		numbers[strconv.Itoa(i+1)] = fmt.Sprintf("%v 33:34 blue %d\n", fs.FileMode(0o640), i+1)
	}
	dirs, err := filepath.Glob(filepath.Join(store, "[a-z0-9]*", "data"))
	if err != nil {
		k.t.Fatal(err)
	}
	for _, dir := range dirs {
		name := filepath.Base(filepath.Dir(dir))
		if name == "copied" {
			entries, err := os.ReadDir(dir)
			if err != nil {
				k.t.Fatal(err)
			}
			k.filesAreWhole(after, dir, entries)
			continue
		}
		want := numbers
		switch {
		case name == "conf":
			want = etc
		case name == "empty", len(name) == 64: // the latter have no name
			want = nil
		}
		if found := k.readTree(dir); !maps.Equal(found, want) && !(name == "conf" && len(found) == 0) {
			k.t.Fatalf("after %q: volume %s has %d files, or others: %q", after, name, len(found), found)
		}
	}
}

// colorXattr is an extended attribute that copies have to have.
const colorXattr = "user.color"

// readTree is what the files below a directory are and hold, by their paths there: mode, owner, an attribute, and content; a link has where it leads.
func (k *killer) readTree(dir string) map[string]string {
	k.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		color := make([]byte, 10)
		n, _ := unix.Lgetxattr(path, colorXattr, color) // most have none
		var data []byte
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			var link string
			link, err = os.Readlink(path)
			data = []byte(link)
		case !e.IsDir():
			data, err = os.ReadFile(path)
		}
		files[strings.TrimPrefix(path, dir+"/")] = fmt.Sprintf("%v %d:%d %s %s", info.Mode(), st.Uid, st.Gid, color[:max(n, 0)], data)
		return err
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return files
}
