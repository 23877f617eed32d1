package ocicli

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/internal/testkit/procfs"
)

const userBase = 100000

// newUserCounting is newCounting with a user namespace, whose root owns all files of the container.
func newUserCounting(t *testing.T) (c *counting, group string) {
	t.Helper()
	c = newCounting(t, func(spec *specs.Spec) {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: userBase, Size: 1000}, {ContainerID: 1000, HostID: 2 * userBase, Size: 64536}}
		spec.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: userBase + 7, Size: 65536}}
		group = spec.Linux.CgroupsPath
	})
	for _, dir := range []string{c.data, c.bundle} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, userBase, userBase+7)
		})
		if err != nil {
			t.Fatal(err)
		}
		// Its root has to get there.
		for ; dir != "/" && dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o711); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c, group
}

// piped calls the runtime with a pipe for its output, which the container's root may use as it may not use a file of the
// host's root, and returns what was said there if the runtime fails.
func (c *counting) piped(args ...string) (said string, ok bool) {
	c.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { read.Close() })
	cmd := c.command(args...)
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Run()
	write.Close()
	if err == nil {
		return "", true
	}
	text := make([]byte, 64<<10)
	n, _ := read.Read(text)
	return string(text[:n]), false
}

// idMaps are the maps of a process's user namespace.
func idMaps(t *testing.T, pid int) string {
	t.Helper()
	maps := ""
	for _, name := range []string{"uid_map", "gid_map"} {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		maps += strings.Join(strings.Fields(string(text)), " ") + "\n"
	}
	return maps
}

// A container with a user namespace goes on in one with the same maps, as confined as before: what it makes belongs to
// the same ids of the host, and exec is root in there, too. Maps that the checkpoint tells of and the configuration does
// not are refused.
func TestCRIUUserNamespace(t *testing.T) {
	c, group := newUserCounting(t)
	if said, ok := c.piped("run", "--detach", "c"); !ok {
		t.Fatal(said)
	}
	t.Cleanup(func() { c.run("delete", "--force", "c") })
	c.until(func(list []probe.Counted) bool { return len(list) > 2 })
	before, maps := c.confinement(c.pid("c"), group), idMaps(t, c.pid("c"))
	if want := "0 100000 1000 1000 200000 64536\n0 100007 65536\n"; maps != want {
		t.Fatalf("maps %q, want %q", maps, want)
	}
	defer c.quoteLog("dump.log")
	c.must("checkpoint", "--image-path", c.image, "c")
	n := len(c.counted())
	defer c.quoteLog("restore.log")

	spec := c.spec()
	own := spec.Linux.UIDMappings
	for _, other := range [][]specs.LinuxIDMapping{
		{{HostID: 3 * userBase, Size: 1000}, {ContainerID: 1000, HostID: 2 * userBase, Size: 64536}}, // another
		{{HostID: userBase, Size: 65536}}, // in one piece
	} {
		spec.Linux.UIDMappings = other
		c.write(spec)
		if said, ok := c.piped("restore", "--detach", "--image-path", c.image, "c"); ok || !strings.Contains(said, "a container with other ids") {
			t.Errorf("restored with the map %+v: %v, %s", other, ok, said)
		}
		if list := c.must("list", "--quiet"); list != "" {
			t.Errorf("left: %s", list)
			c.must("delete", "--force", "c")
		}
		// What it wrote until it was found out is taken back: CRIU wants files as they were.
		if err := os.Truncate(filepath.Join(c.data, "count"), c.sizeOf(n)); err != nil {
			t.Fatal(err)
		}
	}
	spec.Linux.UIDMappings = own
	c.write(spec)

	if said, ok := c.piped("restore", "--detach", "--image-path", c.image, "c"); !ok {
		t.Fatal(said)
	}
	c.more(n)
	pid := c.pid("c")
	if after := c.confinement(pid, group); !reflect.DeepEqual(before, after) {
		t.Errorf("it is\n%+v, was\n%+v", after, before)
	}
	if again := idMaps(t, pid); again != maps {
		t.Errorf("maps %q, were %q", again, maps)
	}
	c.isWhole(pid)
	var r probe.Report
	if err := json.Unmarshal([]byte(c.must("exec", "c", "/probe", "-write", "/data/after=new", "-report")), &r); err != nil {
		t.Fatal(err)
	}
	theirs, err := procfs.Namespaces(pid)
	if err != nil {
		t.Fatal(err)
	}
	if r.UID.Real != 0 || r.Namespaces["user"] != theirs["user"] {
		t.Errorf("exec is uid %d in %d, want 0 in %d", r.UID.Real, r.Namespaces["user"], theirs["user"])
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(c.data, "after"), &st); err != nil || st.Uid != userBase || st.Gid != userBase+7 {
		t.Errorf("what it makes belongs to %d:%d, error %v", st.Uid, st.Gid, err)
	}
	// Nobody but the host's root and the container's can read the checkpoint.
	if err := unix.Stat(filepath.Join(c.image, "pages-1.img"), &st); err != nil || st.Uid != 0 || st.Gid != userBase+7 || st.Mode&0o777 != 0o640 {
		t.Errorf("the checkpoint belongs to %d:%d, mode %#o, error %v", st.Uid, st.Gid, st.Mode, err)
	}
	c.must("kill", "c", "KILL")
	c.waitStopped("c")
	c.must("delete", "c")
}

// sizeOf is how many bytes the first n lines of what was counted have.
func (c *counting) sizeOf(n int) int64 {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.data, "count"))
	if err != nil {
		c.t.Fatal(err)
	}
	size := 0
	for line := range strings.Lines(string(text)) {
		if n--; n < 0 {
			break
		}
		size += len(line)
	}
	return int64(size)
}
