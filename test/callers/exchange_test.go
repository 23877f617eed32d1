package callers

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// containrVar names the environment variable with the path of a ready-made containr, for machines without Go.
const containrVar = "CONTAINR_TEST_CONTAINR"

// containr returns containr with a state root of its own, which has the image base.
func containr(t *testing.T, env ...string) caller {
	t.Helper()
	path := os.Getenv(containrVar)
	if path == "" {
		built, err := testkit.Build("github.com/containr/containr/cmd/containr", runtime.GOARCH)
		if err != nil {
			t.Fatal(err)
		}
		path = built
	}
	c := caller{argv: []string{path, "--root", filepath.Join(t.TempDir(), "root")}, env: env}
	c.must(t, "pull", "-q", "base")
	return c
}

// listening matches what `registry serve` prints when it answers.
var listening = regexp.MustCompile(`^listening at http://(127\.0\.0\.1:[0-9]+); image NAME is ([^ ]+)/NAME in the store\n$`)

// serve serves the store of c, which is containr, as a registry until the end of the test. It returns the registry's host
// and port, and what precedes the names of its images in the store.
func (c caller) serve(t *testing.T) (host, domain string) {
	t.Helper()
	cmd := c.command(t.Context(), "registry", "serve", "--listen", "127.0.0.1:0")
	// That the test is at its end cancels its context, and kills; before, the registry is to end well.
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.WaitDelay = patience
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the registry ends with %s", cmd.ProcessState)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	found := listening.FindStringSubmatch(line)
	if err != nil || found == nil {
		t.Fatalf("the registry says %q: %v", line, err)
	}
	return found[1], found[2]
}

// parties are a caller and containr at a registry that is containr too.
type parties struct {
	caller, ours, store caller
	host, domain        string
	flags               []string // of the caller's pull and push
}

// digest is that of an image in a store of ours.
func digest(t *testing.T, c caller, name string) string {
	t.Helper()
	return strings.TrimSpace(c.must(t, "image", "inspect", "-f", "{{.Digest}}", name))
}

// has fails unless the caller's image is known by the digest.
func (p parties) has(t *testing.T, name, want string) {
	t.Helper()
	format := []string{"image", "inspect", "--format", "{{.RepoDigests}}", name}
	if filepath.Base(p.caller.argv[0]) == "buildah" {
		format = []string{"images", "--format", "{{.Digest}}", name}
	}
	if known := p.caller.aside().must(t, format...); !strings.Contains(known, want) || !strings.HasPrefix(want, "sha256:") {
		t.Errorf("%s is known as %q there, and is %s here", name, known, want)
	}
}

// exchange: a caller pulls from containr's registry what containr pushed there, and pushes what containr pulls. It is the
// same image each time, by its digest.
func (c caller) exchange(t *testing.T, flags ...string) {
	up(t, "lo")
	p := parties{caller: c, ours: containr(t), store: containr(t), flags: flags}
	p.host, p.domain = p.store.serve(t)
	// Debian 12's docker inflates gzip only.
	one, index := p.host+"/ours/one:1", p.host+"/ours/all:1"
	p.ours.must(t, "push", "-q", "--compression", "gzip", "--compression-level", "1", "--platform", "linux/"+runtime.GOARCH, "base", one)
	p.ours.must(t, "push", "-q", "--compression", "gzip", "--compression-level", "1", "--all-platforms", "base", index)
	for _, name := range []string{one, index} {
		c.must(t, append(append([]string{"pull"}, flags...), name)...)
		stored := digest(t, p.store, p.domain+strings.TrimPrefix(name, p.host))
		if name == one || filepath.Base(c.argv[0]) != "buildah" { // which shows the digest of the image that it chose
			p.has(t, name, stored)
		}
		p.ours.must(t, "pull", "-q", "--all-platforms", name)
		if got := digest(t, p.ours, name); got != stored {
			t.Errorf("%s: %s is in the registry, and %s comes from it", name, stored, got)
		}
	}
	p.back(t, one)
}

// back: the caller pushes an image that it pulled, and containr pulls it.
func (p parties) back(t *testing.T, one string) {
	theirs := p.host + "/theirs/one:1"
	p.caller.must(t, "tag", one, theirs)
	p.caller.must(t, append(append([]string{"push"}, p.flags...), theirs)...)
	stored := digest(t, p.store, p.domain+"/theirs/one:1")
	p.ours.must(t, "pull", "-q", theirs)
	if got := digest(t, p.ours, theirs); got != stored {
		t.Errorf("%s: %s is in the registry, and %s comes from it", theirs, stored, got)
	}
	id := []string{"image", "inspect", "-f", "{{.ID}}"}
	if a, b := p.ours.must(t, append(id, one)...), p.ours.must(t, append(id, theirs)...); a != b {
		t.Errorf("image %s came back as %s", a, b)
	}
	if filepath.Base(p.caller.argv[0]) == "docker" {
		p.has(t, theirs, stored)
	}
}

// What crane copies within containr's registry, and what it puts there, is the same image to all three; and crane takes a tag away.
func TestCraneExchanges(t *testing.T) {
	crane, err := filepath.Abs("../../bin/tools/crane")
	if err == nil {
		_, err = exec.LookPath(crane)
	}
	if err != nil {
		t.Skipf("make tools installs crane: %v", err)
	}
	testkit.RequireRoot(t)
	up(t, "lo")
	ours, store := containr(t), containr(t)
	host, domain := store.serve(t)
	c := caller{argv: []string{crane}}
	first, copied := host+"/ours/base:1", host+"/theirs/base:1"
	ours.must(t, "push", "-q", "--all-platforms", "base", first)
	want := digest(t, ours, "base")
	c.wants(t, 0, want+"\n", "digest", first)
	c.must(t, "copy", first, copied)
	alone := filepath.Join(t.TempDir(), "alone.tar")
	c.must(t, "pull", "--platform", "linux/"+runtime.GOARCH, first, alone)
	c.must(t, "push", alone, host+"/theirs/alone:1")
	for _, name := range []string{"/theirs/base:1", "/theirs/alone:1"} {
		ours.must(t, "pull", "-q", "--all-platforms", host+name)
		theirs := strings.TrimSpace(c.must(t, "digest", host+name))
		for where, got := range map[string]string{"pulled": digest(t, ours, host+name), "in the registry": digest(t, store, domain+name)} {
			if got != theirs {
				t.Errorf("%s is %s to crane, %s it is %s", name, theirs, where, got)
			}
		}
	}
	c.wants(t, 0, want+"\n", "digest", copied)
	c.wants(t, 0, "1\n", "ls", host+"/theirs/alone")
	// crane inflates gzip only.
	ours.must(t, "push", "-q", "--compression", "gzip", "base", host+"/plain:1")
	c.must(t, "validate", "--remote", host+"/plain:1")
	c.must(t, "tag", copied, "second")
	c.wants(t, 0, want+"\n", "digest", host+"/theirs/base:second")
	c.must(t, "delete", host+"/theirs/base:second")
	if a := c.call(t, "digest", host+"/theirs/base:second"); a.code == 0 {
		t.Errorf("what was deleted is still %s", a.stdout)
	}
}
