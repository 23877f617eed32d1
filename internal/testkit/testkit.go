// Package testkit is what every kernel test needs: a root file system with a program that tells what it sees, readers
// of kernel state, and a watch over what a test leaves behind.
//
// # Theory of operation
//
// A kernel test runs containr on the kernel that is there, as root, and asserts on what the kernel says: never on
// containr's own words, which could be wrong together with the code. It has three parts:
//
//	func TestHostnameIsPrivate(t *testing.T) {
//		testkit.RequireRoot(t)           // or skip, saying why
//		testkit.Leftovers(t)             // first: what is not gone at the end of the test fails it
//		root := testkit.Rootfs(t)        // a directory with /probe and the empty mount points
//		out := run(t, root, "/probe", "-report")
//		report := testkit.Report(t, out) // what PID 1 saw
//		...
//	}
//
// Rootfs makes the fixture; its /probe is the program of package probe, built once and cached. Package procfs reads
// the kernel's files from outside. Leftovers compares mounts, processes, cgroups, files, links and descriptors before
// and after. Fingerprint does the same for the content of a directory tree. Package guest runs the same test binary on
// other kernels.
package testkit

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit/probe"
)

// ProbeVar names the environment variable that points to a ready-made probe. A guest sets it, having no Go toolchain.
const ProbeVar = "CONTAINR_TEST_PROBE"

// GuestVar is set in the environment of everything that runs in a guest of package guest, to the kernel's name.
const GuestVar = "CONTAINR_GUEST"

// RequireRoot skips the test, saying so, unless it runs as root of the initial user namespace with CAP_SYS_ADMIN.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("needs root: effective uid is %d", os.Geteuid())
	}
	// Root in a user namespace has the capability too, but not over the host: the test is whether the uid map is whole.
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Skipf("needs root: cannot tell the user namespace: %v", err)
	}
	if f := strings.Fields(string(b)); len(f) != 3 || f[2] != "4294967295" {
		t.Skipf("needs root of the initial user namespace: uid map is %q", bytes.TrimSpace(b))
	}
	caps := Status(t, 0).Caps.Effective
	if !caps.Has("CAP_SYS_ADMIN") {
		t.Skipf("needs CAP_SYS_ADMIN: effective capabilities are %v", caps.Names())
	}
}

// built is the path of the probe for each architecture, made once per process.
var built struct {
	sync.Mutex
	path map[string]string
}

// Probe returns the path of the probe program for this machine, building it if need be.
func Probe(t testing.TB) string {
	t.Helper()
	if p := os.Getenv(ProbeVar); p != "" {
		return p
	}
	return ProbeFor(t, runtime.GOARCH)
}

// ProbeFor returns the path of the probe program for the architecture goarch, building it if need be. It needs the
// Go toolchain and the module's sources.
func ProbeFor(t testing.TB, goarch string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if p := built.path[goarch]; p != "" {
		return p
	}
	p, err := Build("github.com/containr/containr/internal/testkit/cmd/probe", goarch)
	if err != nil {
		t.Fatal(err)
	}
	if built.path == nil {
		built.path = map[string]string{}
	}
	built.path[goarch] = p
	return p
}

// Rootfs makes a root file system for a container in a temporary directory, which is removed after the test: /probe,
// the empty mount points /proc /sys /dev /tmp /run, a few directories, and /etc with a handful of users. All of it
// belongs to uid 0 when root runs the test, and every directory on the way to it may be searched by anyone, so that
// a container whose root is another uid gets there.
func Rootfs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	chmod(t, filepath.Dir(dir), 0o755)
	root := filepath.Join(dir, "rootfs")
	for _, d := range []struct {
		name string
		mode os.FileMode
	}{
		{"", 0o755}, {"proc", 0o555}, {"sys", 0o555}, {"dev", 0o755}, {"tmp", 0o777 | os.ModeSticky}, {"run", 0o755},
		{"etc", 0o755}, {"bin", 0o755}, {"root", 0o700}, {"home", 0o755}, {"home/alice", 0o755}, {"var", 0o755},
	} {
		if err := os.Mkdir(filepath.Join(root, d.name), 0o755); err != nil {
			t.Fatal(err)
		}
		chmod(t, filepath.Join(root, d.name), d.mode) // past the umask
	}
	for name, text := range rootfsFiles {
		WriteFile(t, filepath.Join(root, name), text, 0o644)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(root, "home/alice"), 1000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if !linkProbe(t, root) {
		AddProgram(t, root, Probe(t), "/probe")
	}
	return root
}

// linkProbe gives the root a hard link to the probe, if this is a guest: an emulator has to translate every copy of a
// program anew, which takes half a second. On a real machine a copy costs nothing, and nobody can break another's.
func linkProbe(t testing.TB, root string) bool {
	t.Helper()
	if os.Getenv(GuestVar) == "" {
		return false
	}
	name := filepath.Join(root, "probe")
	if err := os.Link(Probe(t), name); err != nil {
		return false // it is on another file system
	}
	chmod(t, name, 0o755)
	return true
}

// rootfsFiles are the text files of the fixture. alice is in two supplementary groups.
var rootfsFiles = map[string]string{
	"etc/passwd": `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/sh
alice:x:1000:1000:Alice:/home/alice:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/sh
`,
	"etc/group": `root:x:0:
daemon:x:1:
audio:x:29:alice
users:x:100:alice
alice:x:1000:
nogroup:x:65534:
`,
}

// AddProgram copies the program at path to name inside root, executable by all.
func AddProgram(t testing.TB, root, path, name string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	WriteFile(t, filepath.Join(root, name), string(b), 0o755)
}

// WriteFile writes a file with exactly this mode, whatever the umask, and makes its directory.
func WriteFile(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	chmod(t, path, mode)
}

func chmod(t testing.TB, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// Report reads the first report in what a probe printed.
func Report(t testing.TB, out []byte) probe.Report {
	t.Helper()
	return Reports(t, out)[0]
}

// Reports reads all reports in what a probe printed; there must be one at least. Events between them are passed over.
func Reports(t testing.TB, out []byte) []probe.Report {
	t.Helper()
	var reports []probe.Report
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var r probe.Report
		if err := dec.Decode(&r); err != nil {
			t.Fatalf("the probe's output is not JSON: %v\n%s", err, out)
		}
		if r.PID != 0 {
			reports = append(reports, r)
		}
	}
	if len(reports) == 0 {
		t.Fatalf("no report in the probe's output %q", out)
	}
	return reports
}

// Events reads what the acting flags of a probe printed, in order. Reports between them are passed over.
func Events(t testing.TB, out []byte) []probe.Event {
	t.Helper()
	var events []probe.Event
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var e probe.Event
		if err := dec.Decode(&e); err != nil {
			t.Fatalf("the probe's output is not JSON: %v\n%s", err, out)
		}
		if e.Spin != nil || e.Fork != nil || e.Waiting != nil || e.Signal != "" {
			events = append(events, e)
		}
	}
	return events
}

// WaitToBeKilled does not return: a process that a test kills calls it. It is not select {}, which the Go runtime takes for a deadlock
// when no other goroutine can run.
func WaitToBeKilled() {
	for {
		time.Sleep(time.Hour)
	}
}
