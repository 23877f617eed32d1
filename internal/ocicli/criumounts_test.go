package ocicli

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// Mounts of the host below a bind, a bind behind a link, and a root that is read-only are
// as they were.
func TestCRIUMounts(t *testing.T) {
	var group string
	below := filepath.Join(t.TempDir(), "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	c := newCounting(t, func(spec *specs.Spec) {
		group = spec.Linux.CgroupsPath
		spec.Root.Readonly = true
		if err := os.Symlink("home", filepath.Join(spec.Root.Path, "people")); err != nil {
			t.Fatal(err)
		}
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/people/bob", Type: "bind", Source: filepath.Dir(below), Options: []string{"rbind", "ro", "rslave"}})
	})
	if err := unix.Mount("tmpfs", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(below, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	testkit.WriteFile(t, filepath.Join(below, "file"), "below", 0o644)
	before := c.confinement(c.start("c"), group)
	c.must("checkpoint", "--image-path", c.image, "c")
	n := len(c.counted())
	defer c.quoteLog("restore.log")
	c.must("restore", "--detach", "--image-path", c.image, "c")
	c.more(n)
	if after := c.confinement(c.pid("c"), group); !reflect.DeepEqual(before, after) {
		t.Errorf("it is\n%+v, was\n%+v", after, before)
	}
	tries := testkit.Report(t, []byte(c.must("exec", "c", "/probe", "-try", "read:/home/bob/below/file", "-try", "create:/x"))).Tries
	if len(tries) != 2 || tries[0].Value != "below" || tries[1].Errno != "EROFS" {
		t.Errorf("in the container: %+v", tries)
	}
	c.must("delete", "--force", "c")
}
