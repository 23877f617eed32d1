// Package image_test runs a real Debian image, fetched by its name from a real registry.
//
// # Theory of operation
//
// The image is made of Debian packages by mmdebstrap and apt-get, and packed by umoci: layers with thousands of files,
// with whiteouts and opaque directories, and with everything that is hard to unpack (debian_test.go). With a second
// architecture beside it, it is pushed as an index to the CNCF distribution registry on the loopback interface. From
// there on the test does what people do with an image, through the command line, and looks at what the kernel did.
package image_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
	"github.com/containr/containr/internal/testkit/realregistry"
	"github.com/containr/containr/pkg/snapshot"
)

func TestMain(m *testing.M) { program.Main(m, testkit.OuterNetwork) }

// machine is containr with a state root of its own.
type machine struct {
	root string
}

// result is what a command did.
type result struct {
	status         int
	stdout, stderr string
}

// containr runs a command to its end.
func (m machine) containr(t *testing.T, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "containr", args...)
	cmd.Env = append(os.Environ(), program.RootVar+"="+m.root)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// prints runs a command that must succeed and print this.
func (m machine) prints(t *testing.T, want string, args ...string) {
	t.Helper()
	if r := m.containr(t, args...); r.status != 0 || r.stdout != want {
		t.Errorf("containr %s: status %d, printed %q, want %q\n%s", strings.Join(args, " "), r.status, r.stdout, want, r.stderr)
	}
}

func TestDebian(t *testing.T) {
	program.Require(t)
	layout := debianLayout(t)
	testkit.Leftovers(t)
	registry := realregistry.Start(t)
	registry.PushLayout(t, layout, debianIndex, "debian", "test")
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // for the users of containers
		t.Fatal(err)
	}
	m := machine{root: filepath.Join(dir, "root")}
	t.Cleanup(func() {
		for _, path := range program.LeftIn(m.root) {
			t.Errorf("left in the state root: %s", path)
		}
	})
	name := registry.Host() + "/debian:test"
	m.prints(t, name+"\n", "pull", "-q", name)

	t.Run("tree", func(t *testing.T) { m.sameTree(t, name, layout) })
	t.Run("programs", func(t *testing.T) { m.programs(t, name) })
	t.Run("users", func(t *testing.T) { m.users(t, name) })
	t.Run("memory", func(t *testing.T) { m.memory(t, name) })
	t.Run("cpu", func(t *testing.T) { m.cpu(t, name) })
	t.Run("processes", func(t *testing.T) { m.processes(t, name) })
	t.Run("packages", func(t *testing.T) { m.packages(t, name) })
	t.Run("architecture", func(t *testing.T) { m.architecture(t, name) })
}

// sameTree compares what our layers look like, mounted, with what umoci unpacks: every file, with its mode, owner,
// times, attributes, links and content.
func (m machine) sameTree(t *testing.T, name, layout string) {
	bundle := filepath.Join(t.TempDir(), "bundle")
	umoci := exec.Command("umoci", "unpack", "--image", layout+":"+debianImage, bundle)
	if out, err := umoci.CombinedOutput(); err != nil {
		t.Fatalf("umoci unpack: %v\n%s", err, out)
	}
	want := testkit.Fingerprint(t, filepath.Join(bundle, "rootfs"))
	got := testkit.Fingerprint(t, m.mount(t, name))
	if len(want) < 3000 {
		t.Fatalf("umoci unpacked %d files: that is no Debian", len(want))
	}
	different := 0
	for _, path := range slices.Sorted(maps.Keys(union(want, got))) {
		if want[path] == got[path] {
			continue
		}
		if different++; different <= 20 {
			t.Errorf("%s:\n  have %s\n  want %s", path, orNothing(got[path]), orNothing(want[path]))
		}
	}
	t.Logf("%d files compared, %d differ", len(want), different)
}

func union(a, b testkit.Tree) testkit.Tree {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func orNothing(line string) string {
	if line == "" {
		return "nothing"
	}
	return line
}

// mount mounts the image's snapshot read-only and returns where.
func (m machine) mount(t *testing.T, name string) string {
	t.Helper()
	r := m.containr(t, "image", "inspect", name)
	var inspected []struct {
		RootFS struct {
			Layers []string
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &inspected); err != nil || len(inspected) != 1 {
		t.Fatalf("image inspect: %v\n%s%s", err, r.stdout, r.stderr)
	}
	// "Layer ChainID" of the image specification.
	var chain string
	for _, d := range inspected[0].RootFS.Layers {
		if chain != "" {
			d = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(chain+" "+d)))
		}
		chain = d
	}
	snapshots, err := snapshot.Open(filepath.Join(m.root, "snapshots"), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := snapshots.View(t.Context(), snapshot.ChainID(chain))
	if err != nil || len(mounts) != 1 {
		t.Fatalf("%d mounts: %v", len(mounts), err)
	}
	target := t.TempDir()
	options := "lowerdir=" + strings.Join(mounts[0].Lower, ":")
	if err := unix.Mount("overlay", target, "overlay", unix.MS_RDONLY, options); err != nil {
		t.Fatalf("mount %s: %v", options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
	})
	return target
}

func (m machine) programs(t *testing.T, name string) {
	m.prints(t, "hello from Debian GNU/Linux, root in /srv/app\n", "run", "--rm", name)
	m.prints(t, "True 0 3\n", "run", "--rm", name, "/srv/app/count.py")
	m.prints(t, "5050 0\n", "run", "--rm", name, "./sum.pl")
	m.prints(t, "hi from Debian GNU/Linux, root in /\n", "run", "--rm", "-e", "GREETING=hi", "-w", "/", name, "/srv/app/hello.sh")
	r := m.containr(t, "run", "--rm", name, "apt-get", "--version")
	if r.status != 0 || !strings.HasPrefix(r.stdout, "apt 2.") {
		t.Errorf("apt-get --version: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	// A pipeline of programs, with data from outside to outside.
	cmd := exec.Command("containr", "run", "--rm", "-i", name, "sh", "-c", "gzip | base64 -w 0 | base64 -d | gunzip | sha256sum")
	cmd.Env = append(os.Environ(), program.RootVar+"="+m.root)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if want := fmt.Sprintf("%x  -\n", sha256.Sum256(data)); err != nil || string(out) != want {
		t.Errorf("a pipeline printed %q (%v), want %q", out, err, want)
	}
}

func (m machine) users(t *testing.T, name string) {
	m.prints(t, "hello from Debian GNU/Linux, nobody in /srv/app\n", "run", "--rm", "-u", "nobody", name)
	m.prints(t, "True 65534 3\n", "run", "--rm", "-u", "nobody", name, "./count.py")
	m.prints(t, "5050 33\n", "run", "--rm", "-u", "www-data", name, "./sum.pl")
	m.prints(t, "uid=33(www-data) gid=33(www-data) groups=33(www-data)\n", "run", "--rm", "-u", "www-data", name, "id")
	// Root becomes somebody else inside, and a new user can be made.
	m.prints(t, "nobody\n", "run", "--rm", name, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "id", "-un")
	m.prints(t, "visitor\n", "run", "--rm", name, "sh", "-c", "useradd -m visitor && su visitor -c 'cd && touch file && stat -c %U file'")
	// Programs that run as their owner do, unless no-new-privileges forbids it.
	setuid := "cp /bin/perl /perl && chmod 4755 /perl && exec setpriv --reuid=65534 --regid=65534 --clear-groups %s /perl -e 'print \"$>\\n\"'"
	m.prints(t, "0\n", "run", "--rm", name, "sh", "-c", fmt.Sprintf(setuid, ""))
	m.prints(t, "65534\n", "run", "--rm", "--security-opt", "no-new-privileges", name, "sh", "-c", fmt.Sprintf(setuid, ""))
	// With users of its own, the owners of files are what they were.
	m.prints(t, "0:0 1000:2000\n", "run", "--rm", "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", name,
		"sh", "-c", "echo $(stat -c %u:%g /etc/passwd setuid)")
}

// memory checks that a limit kills who goes over it, and nobody else.
func (m machine) memory(t *testing.T, name string) {
	m.prints(t, "20\n", "run", "--rm", "-m", "64m", name, "./hog.pl", "20")
	r := m.containr(t, "run", "--rm", "-m", "64m", "--memory-swap", "64m", name, "./hog.pl", "200")
	want := "containr: the program reached the container's memory limit and was killed\nhint: raise it with -m\nmore: containr explain CTR-1051\n"
	if r.status != 137 || r.stdout != "" || r.stderr != want {
		t.Errorf("200 MiB with -m 64m: status %d, printed %q and\n%s", r.status, r.stdout, r.stderr)
	}
	// What is killed need not be the program itself.
	r = m.containr(t, "run", "--rm", "-m", "64m", "--memory-swap", "64m", name, "sh", "-c", "./hog.pl 200; echo status $?")
	if r.status != 0 || r.stdout != "status 137\n" {
		t.Errorf("a child of 200 MiB with -m 64m: status %d, printed %q\n%s", r.status, r.stdout, r.stderr)
	}
}

// cpu checks that a limit throttles, by the kernel's own count.
func (m machine) cpu(t *testing.T, name string) {
	count := `cat $(find /sys/fs/cgroup -follow -name cpu.stat 2>/dev/null | head -n 1)`
	r := m.containr(t, "run", "--rm", "--cpus", "0.1", name, "sh", "-c", "./spin.pl 0.2; "+count)
	lines := strings.Fields(r.stdout)
	i := slices.Index(lines, "nr_throttled")
	if r.status != 0 || i < 0 {
		t.Fatalf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	// 200 ms of time at 10 ms in each period of 100 take 2 s, nearly all of whose periods end throttled, even if the
	// machine has much else to do.
	throttled, _ := strconv.Atoi(lines[i+1])
	took, _ := strconv.ParseFloat(lines[0], 64)
	if throttled < 10 || took < 1.5 {
		t.Errorf("200 ms of CPU time took %v s and was throttled %d times", took, throttled)
	}
}

// processes checks that a limit refuses to make more, and that without one there are more.
func (m machine) processes(t *testing.T, name string) {
	r := m.containr(t, "run", "--rm", "--pids-limit", "10", name, "./fork.pl", "50")
	if want := "Resource temporarily unavailable\n9\n"; r.stdout != want {
		t.Errorf("50 processes with --pids-limit 10: printed %q, want %q\n%s", r.stdout, want, r.stderr)
	}
	m.prints(t, "50\n", "run", "--rm", name, "./fork.pl", "50")
}

// packages checks that the package manager finds its files as it left them, and can work.
func (m machine) packages(t *testing.T, name string) {
	m.prints(t, "", "run", "--rm", name, "dpkg", "--audit")
	r := m.containr(t, "run", "--rm", name, "sh", "-c", "dpkg --verify | grep -vE ' /usr/share/(doc|man|locale)/| c /| /usr/share/base-files/motd$'")
	if r.stdout != "" {
		t.Errorf("dpkg finds files changed:\n%s%s", r.stdout, r.stderr)
	}
	m.prints(t, "gone\n", "run", "--rm", name, "sh", "-c",
		"dpkg --purge python3-minimal >/dev/null 2>&1; test -e /usr/bin/python3 || echo gone")
	m.prints(t, "True 0 3\n", "run", "--rm", name, "./count.py") // only there
}

// architecture checks that the other half of the index is there, and what running it says.
func (m machine) architecture(t *testing.T, name string) {
	m.prints(t, name+"\n", "pull", "-q", "--platform", "linux/arm64", name)
	m.prints(t, "arm64\n", "image", "inspect", "--platform", "linux/arm64", "--format", "{{.Architecture}}", name)
	r := m.containr(t, "run", "--rm", "--platform", "linux/s390x", name)
	if r.status != 125 || !strings.Contains(r.stderr, "is not for linux/s390x; it is for linux/amd64, linux/arm64") {
		t.Errorf("for s390x: status %d\n%s", r.status, r.stderr)
	}
}
