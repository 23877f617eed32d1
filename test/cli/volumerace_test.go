package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
)

// A program in a container swaps a directory of its volume for links that lead out, in a loop, while files are copied to and
// from what has that name. Nothing outside is read, written or made.
func TestCopiesOfVolumesNeverLeaveThem(t *testing.T) {
	program.Require(t)
	testkit.Leftovers(t)
	dir := t.TempDir()
	k := &killer{t: t, root: filepath.Join(dir, "root")}
	outside := filepath.Join(dir, "outside")
	for path, text := range map[string]string{filepath.Join(outside, "f"): "the host's", filepath.Join(dir, "mine", "f"): "mine", filepath.Join(dir, "mine", "g"): "mine"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const swap = `cd /v; echo "the volume's" > keep
while :; do
	mkdir d; cp keep d/f; mv d gone; ln -s "$0" d; rm d
	ln -s ../../../../../../../../../../../../../..$0 d; rm -r d gone
	mkdir d; ln -s "$0/f" d/f; ln -s "$0/g" d/g; rm -r d
done`
	if out, err := k.run("run", "-d", "--name", "attacker", "-v", "v:/v", "base", "sh", "-c", swap, outside); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	to := filepath.Join(dir, "copy")
	lines := [][]string{
		{"volume", "cp", "-q", filepath.Join(dir, "mine") + "/.", "v:/d"}, {"volume", "cp", "-q", filepath.Join(dir, "mine", "g"), "v:/d/g"},
		{"volume", "cp", "-q", "v:/d/f", to}, {"volume", "cp", "-qL", "v:/d/f", to}, {"volume", "cp", "-q", "v:/d/.", to}, {"volume", "cp", "-qL", "v:/d", to},
	}
	copied, refused := 0, 0
	for began := time.Now(); time.Since(began) < 4*time.Second; {
		var copies []*exec.Cmd
		for _, line := range lines[(copied+refused)%len(lines):][:1] {
			copies = append(copies, k.start(line))
		}
		for _, c := range copies {
			if c.Wait() == nil {
				copied++
			} else {
				refused++
			}
		}
		filepath.WalkDir(to, func(path string, _ os.DirEntry, _ error) error {
			if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
				if data, _ := os.ReadFile(path); strings.Contains(string(data), "host") {
					t.Fatalf("%s came out: %q", path, data)
				}
			}
			return nil
		})
		os.RemoveAll(to)
	}
	t.Logf("%d copied, %d refused", copied, refused)
	if copied == 0 || refused == 0 {
		t.Error("one side always wins: there was no race")
	}
	entries, err := os.ReadDir(outside)
	text, readErr := os.ReadFile(filepath.Join(outside, "f"))
	if err != nil || len(entries) != 1 || readErr != nil || string(text) != "the host's" {
		t.Errorf("outside there are %v, %v, and %q, %v", entries, err, text, readErr)
	}
	removeContainers(t, k.root)
	if err := program.AwaitMonitor(k.root); err != nil { // it writes to the root, which is removed next
		t.Error(err)
	}
}
