package image_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/program"
	"github.com/containr/containr/internal/testkit/realregistry"
)

// exchange is containr and other tools at one registry and one directory.
type exchange struct {
	machine
	registry, dir string
}

func newExchange(t *testing.T) *exchange {
	program.Require(t)
	x := &exchange{registry: realregistry.Start(t).Host(), dir: t.TempDir()}
	x.root = filepath.Join(x.dir, "root")
	x.must(t, "pull", "-q", "base")
	return x
}

// must runs containr and returns the line that it prints.
func (x *exchange) must(t *testing.T, args ...string) string {
	t.Helper()
	r := x.containr(t, args...)
	if r.status != 0 {
		t.Fatalf("containr %s: status %d\n%s%s", strings.Join(args, " "), r.status, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// tool runs another program and returns the line that it prints.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, &complaints)
	}
	return strings.TrimSpace(string(out))
}

// sameDigest fails unless two tools mean the same bytes.
func sameDigest(t *testing.T, what, have, want string) {
	t.Helper()
	if have != want || !strings.HasPrefix(want, "sha256:") {
		t.Errorf("%s: digest %q, want %q", what, have, want)
	}
}

// What we push crane pulls, what it pushes we pull: an index for two platforms, byte by byte.
func TestExchangeWithCrane(t *testing.T) {
	crane, err := filepath.Abs("../../bin/tools/crane")
	if err == nil {
		_, err = os.Stat(crane)
	}
	if err != nil {
		t.Skipf("make tools installs crane: %v", err)
	}
	x := newExchange(t)
	want := x.must(t, "image", "inspect", "-f", "{{.Digest}}", "base")
	ours, theirs := x.registry+"/ours/base:1", x.registry+"/theirs/base:1"
	x.must(t, "push", "-q", "--all-platforms", "base", ours)
	sameDigest(t, "crane sees what we pushed", tool(t, crane, "digest", ours), want)
	layout := filepath.Join(x.dir, "layout")
	tool(t, crane, "pull", "--format", "oci", ours, layout)
	sameDigest(t, "crane's layout", x.must(t, "image", "copy", "oci:"+layout, "back:1"), want)
	tool(t, crane, "copy", ours, theirs)
	x.must(t, "pull", "-q", "--all-platforms", theirs)
	sameDigest(t, "we see what crane pushed", x.must(t, "image", "inspect", "-f", "{{.Digest}}", theirs), want)
	// crane inflates gzip only.
	plain := x.registry + "/plain/base:1"
	x.must(t, "push", "-q", "--compression", "gzip", "base", plain)
	tool(t, crane, "validate", "--remote", plain)
	archive := filepath.Join(x.dir, "crane.tar")
	tool(t, crane, "pull", "--platform", "linux/"+runtime.GOARCH, ours, archive)
	x.must(t, "load", "-q", "-i", archive)
	x.prints(t, "crane's archive\n", "run", "--rm", ours, "echo", "crane's archive")
}

// A layout goes to umoci, which changes a file and packs it again, and what it made runs; and the other way round.
func TestExchangeWithUmoci(t *testing.T) {
	umoci, err := exec.LookPath("umoci")
	if err != nil {
		t.Skip("umoci is not installed")
	}
	x := newExchange(t)
	plain, layout, bundle := x.registry+"/plain:1", filepath.Join(x.dir, "layout"), filepath.Join(x.dir, "bundle")
	// umoci 0.4 cannot inflate zstd, and does not choose among platforms.
	x.must(t, "push", "-q", "--compression", "gzip", "--platform", "linux/"+runtime.GOARCH, "base", plain)
	want := x.must(t, "image", "copy", "docker://"+plain, "oci:"+layout+":given")
	tool(t, umoci, "unpack", "--image", layout+":given", bundle)
	if err := os.WriteFile(filepath.Join(bundle, "rootfs", "made-by"), []byte("umoci\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(bundle, "rootfs", "etc", "group")); err != nil {
		t.Fatal(err)
	}
	tool(t, umoci, "repack", "--image", layout+":changed", bundle)
	x.must(t, "image", "copy", "oci:"+layout+":changed", "theirs:1")
	x.prints(t, "umoci\nno group\n", "run", "--rm", "theirs:1", "sh", "-c", "cat /made-by; test -e /etc/group || echo no group")
	sameDigest(t, "what umoci was given", x.must(t, "image", "copy", "oci:"+layout+":given", "given:1"), want)

	ours := filepath.Join(x.dir, "ours")
	x.must(t, "image", "unpack", "given:1", ours)
	if err := os.WriteFile(filepath.Join(ours, "rootfs", "made-by"), []byte("containr\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	x.must(t, "image", "repack", ours, "repacked:1")
	x.must(t, "image", "copy", "repacked:1", "oci:"+layout+":repacked")
	again := filepath.Join(x.dir, "again")
	tool(t, umoci, "unpack", "--image", layout+":repacked", again)
	if text, err := os.ReadFile(filepath.Join(again, "rootfs", "made-by")); err != nil || string(text) != "containr\n" {
		t.Errorf("umoci finds %q, error %v", text, err)
	}
}
