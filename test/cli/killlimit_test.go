package cli_test

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
)

// Commands that mount volumes with a size are killed at any moment, two at a time. What the volume holds is whole, its file is
// attached to one device at most, and to none after the last that used it.
func TestKilledCommandsLeaveNoLoopDevices(t *testing.T) {
	program.Require(t)
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("mkfs.ext4 is not installed")
	}
	testkit.Leftovers(t)
	k := &killer{t: t, root: filepath.Join(t.TempDir(), "root")}
	for _, args := range [][]string{
		{"volume", "create", "-o", "size=4m", "small"},
		{"run", "--rm", "-v", "small:/small", "base", "sh", "-c", "for i in $(seq 40); do echo $i > /small/$i; done"},
		{"volume", "snapshot", "small", "keep"},
	} {
		if out, err := k.run(args...); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	k.commands = [][]string{
		{"run", "--rm", "-v", "small:/small", "base", "sh", "-c", "echo 1 > /small/1"}, {"run", "--rm", "-v", "conf:/etc", "base", "true"},
		{"volume", "clone", "small", "twin"}, {"volume", "restore", "small@keep"}, {"volume", "rm", "twin", "conf"}, {"volume", "inspect", "small"},
		{"volume", "create", "-o", "size=2m", "conf"}, {"explain", "run", "-v", "small:/small", "base", "true"},
	}
	const seed, rounds = 20261130, 60
	random := rand.New(rand.NewPCG(seed, seed))
	for round := range rounds {
		lines := k.round(random, 120*time.Millisecond)
		if devices := devicesOf(t, filepath.Join(k.root, "volumes", "small", "image")); devices > 1 {
			t.Fatalf("round %d, after %q: %d devices of one file", round, lines, devices)
		}
		if out, err := k.run("run", "--rm", "-v", "small:/small", "base", "sh", "-c", "cd /small && cat * | wc -l"); err != nil || strings.TrimSpace(out) != "40" {
			t.Fatalf("round %d, after %q: %v, %q", round, lines, err, out)
		}
	}
	k.wasKilling(rounds)
	removeContainers(t, k.root)
	for _, args := range [][]string{{"volume", "rm", "small@keep"}, {"volume", "prune", "-af"}, {"system", "check", "--repair"}} {
		if out, err := k.run(args...); err != nil {
			t.Errorf("%q: %v, %q", args, err, out)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(k.root, "volumes", "*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	awaitUnattached(t, k.root)
}

// devicesOf counts the loop devices of a file.
func devicesOf(t *testing.T, file string) int {
	out, err := exec.Command("losetup", "--noheadings", "--output", "NAME", "--associated", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(out), "\n")
}
