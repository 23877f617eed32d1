package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	testprobe "github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/internal/testkit/procfs"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/rootfs"
)

// probeIn runs the example with more mounts in a root file system and returns what its
// program saw.
func probeIn(t *testing.T, in Input, mounts ...specs.Mount) testprobe.Report {
	t.Helper()
	r, err := runIn(t, in, mounts...)
	if err != nil {
		t.Fatal(err, Hint(err))
	}
	return r
}

func runIn(t *testing.T, in Input, mounts ...specs.Mount) (testprobe.Report, error) {
	t.Helper()
	in.ID = "test"
	in.Spec.Mounts = append(in.Spec.Mounts, mounts...)
	if in.Root == "" {
		in.Root = testkit.Rootfs(t)
	}
	in.RootMount = host.MountOf(in.Root)
	r, err := runPlan(t, compileInput(t, in))
	if err != nil {
		return testprobe.Report{}, err
	}
	return testkit.Report(t, r.out), nil
}

// own makes a mount of its own out of a directory for the test: a tmpfs with flags.
func own(t *testing.T, flags uintptr) string {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Each option of the runtime specification does to a new file system and to a bind what
// mount(8) says, as the kernel shows it.
func TestMountOptions(t *testing.T) {
	testkit.Leftovers(t)
	dir := own(t, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME|unix.MS_NODIRATIME)
	file := filepath.Join(dir, "file")
	testkit.WriteFile(t, file, "", 0o644)
	cases := []struct {
		options   string
		has, lack string
	}{
		{"ro", "ro", "rw"}, {"rw", "rw", "ro"}, {"ro,rw", "rw", "ro"}, {"nosuid", "nosuid", ""}, {"nodev,noexec", "nodev noexec", ""},
		{"noatime", "noatime", "relatime"}, {"relatime", "relatime", "noatime"}, {"nodiratime", "nodiratime", ""},
		{"strictatime,diratime", "", "noatime relatime nodiratime"}, {"suid,dev,exec", "", "nosuid nodev noexec"},
		{"nosymfollow", "nosymfollow", ""}, {"nosymfollow,symfollow", "", "nosymfollow"},
		{"norelatime", "", "relatime noatime"}, {"atime", "relatime", "noatime"},
		{"async,defaults,silent,loud,noiversion,nomand,nolazytime,ro", "ro", ""},
	}
	var mounts []specs.Mount
	for i, c := range cases {
		at := string(rune('a' + i))
		list := strings.Split(c.options, ",")
		mounts = append(mounts, specs.Mount{Destination: "/new/" + at, Type: "tmpfs", Source: "tmpfs", Options: list},
			specs.Mount{Destination: "/dir/" + at, Type: "bind", Source: dir, Options: append([]string{"bind"}, list...)},
			specs.Mount{Destination: "/file/" + at, Source: file, Options: append(list, "bind")})
	}
	r := probeIn(t, Input{Spec: exampleSpec("/probe")}, mounts...)
	for i, c := range cases {
		for _, kind := range []string{"/new/", "/dir/", "/file/"} {
			m, ok := procfs.Mounts(r.Mounts).At(kind + string(rune('a'+i)))
			if !ok {
				t.Fatalf("%s%c is not mounted", kind, 'a'+i)
			}
			for _, o := range strings.Fields(c.has) {
				if !slices.Contains(m.Options, o) {
					t.Errorf("%s with %s: %v: want %s", kind, c.options, m.Options, o)
				}
			}
			for _, o := range strings.Fields(c.lack) {
				if slices.Contains(m.Options, o) {
					t.Errorf("%s with %s: %v: want no %s", kind, c.options, m.Options, o)
				}
			}
		}
	}
}

// What is no option of every mount reaches the file system, which refuses what it does
// not know.
func TestMountOptionsOfTheFileSystem(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	r := probeIn(t, Input{Spec: exampleSpec("/probe")},
		specs.Mount{Destination: "/m", Type: "tmpfs", Source: "name", Options: []string{"size=64k", "nr_inodes=10", "mode=1750", "uid=7", "sync", "dirsync"}})
	m, _ := procfs.Mounts(r.Mounts).At("/m")
	for _, o := range []string{"size=64k", "nr_inodes=10", "mode=1750", "uid=7", "sync", "dirsync"} {
		if !slices.Contains(m.Super, o) {
			t.Errorf("%v: no %s", m.Super, o)
		}
	}
	if m.Source != "name" {
		t.Errorf("source %q", m.Source)
	}
	_, err := runIn(t, Input{Spec: exampleSpec("/probe")}, specs.Mount{Destination: "/m", Type: "tmpfs", Options: []string{"sise=64k"}})
	var step *StepError
	if !errors.As(err, &step) || step.Step.Call.Name() != "fsconfig" || !strings.Contains(err.Error(), "sise") || Hint(err) == "" {
		t.Errorf("an unknown option: %v", err)
	}
}

// Attributes with an r before them hold for the mounts below a bind too; without, they
// do not. Kernels that cannot do the first say so.
func TestMountAttributesOfAllBelow(t *testing.T) {
	dir := own(t, 0)
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", sub, "tmpfs", unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	testkit.Leftovers(t)
	bind := func(at string, options ...string) specs.Mount {
		return specs.Mount{Destination: at, Type: "bind", Source: dir, Options: append([]string{"rbind"}, options...)}
	}
	if !machine(t).HasMountSetattr() {
		spec := exampleSpec("/probe")
		spec.Mounts = append(spec.Mounts, bind("/rro", "rro"))
		refused(t, spec, "need Linux 5.12")
		r := probeIn(t, Input{Spec: exampleSpec("/probe")}, specs.Mount{Destination: "/one", Type: "bind", Source: dir, Options: []string{"bind", "rro"}})
		if m, _ := procfs.Mounts(r.Mounts).At("/one"); !slices.Contains(m.Options, "ro") {
			t.Errorf("a bind with nothing below: %v", m)
		}
		return
	}
	r := probeIn(t, Input{Spec: exampleSpec("/probe")}, bind("/ro", "ro"), bind("/rro", "rro"), bind("/mixed", "rro", "rw"),
		bind("/rnoexec", "rnoexec", "rnosuid", "rnoatime", "rnosymfollow"), bind("/rdev", "rdev"))
	for point, want := range map[string]string{"/ro": "ro", "/ro/sub": "rw", "/rro": "ro", "/rro/sub": "ro", "/mixed": "rw", "/mixed/sub": "ro",
		"/rnoexec": "noexec", "/rnoexec/sub": "nosuid,noexec,noatime,nosymfollow,nodev", "/rdev/sub": "-nodev"} {
		m, _ := procfs.Mounts(r.Mounts).At(point)
		for o := range strings.SplitSeq(want, ",") {
			if not, bare := strings.CutPrefix(o, "-"); slices.Contains(m.Options, not) == bare {
				t.Errorf("%s: %v: want %s", point, m.Options, o)
			}
		}
	}
}

// Propagation is what the options say, of new file systems too; without a word nothing
// is passed on to the host.
func TestMountPropagation(t *testing.T) {
	dir := own(t, 0)
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	testkit.Leftovers(t)
	var mounts []specs.Mount
	for _, p := range []string{"none", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"} {
		options := []string{"bind", p}
		if p == "none" {
			options = options[:1]
		}
		mounts = append(mounts, specs.Mount{Destination: "/bind/" + p, Type: "bind", Source: dir, Options: options},
			specs.Mount{Destination: "/new/" + p, Type: "tmpfs", Source: "tmpfs", Options: options[1:]})
	}
	r := probeIn(t, Input{Spec: exampleSpec("/probe")}, mounts...)
	for _, m := range r.Mounts {
		kind, p, _ := strings.Cut(strings.TrimPrefix(m.Point, "/"), "/")
		if kind != "bind" && kind != "new" {
			continue
		}
		text := strings.Join(m.Propagation, " ")
		shared, slave, unbindable := strings.Contains(text, "shared"), strings.Contains(text, "master"), strings.Contains(text, "unbindable")
		p = strings.TrimPrefix(p, "r")
		switch {
		case shared != (p == "shared"), unbindable != (p == "unbindable"), kind == "bind" && slave != (p == "slave" || p == "none" || p == "shared"):
			t.Errorf("%s: %q", m.Point, text)
		}
	}
}

// The root's own propagation is the configuration's.
func TestMountPropagationOfTheRoot(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	for p, want := range map[string]string{"private": "", "rslave": "", "shared": "shared", "runbindable": "unbindable"} {
		spec := exampleSpec("/probe")
		spec.Linux.RootfsPropagation = p
		m, _ := procfs.Mounts(probe(t, spec).Mounts).At("/")
		if text := strings.Join(m.Propagation, " "); want == "" && (strings.Contains(text, "shared") || strings.Contains(text, "unbindable")) || !strings.Contains(text, want) {
			t.Errorf("%s: %q", p, text)
		}
	}
	spec := exampleSpec("/probe")
	spec.Linux.RootfsPropagation = "sometimes"
	refused(t, spec, "unknown propagation")
}

// A tmpfs with tmpcopyup begins with what the image has there, as it is there; the image
// is not touched by what happens in it.
func TestMountTmpfsWithCopy(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	root := testkit.Rootfs(t)
	dir := filepath.Join(root, "data")
	testkit.WriteFile(t, filepath.Join(dir, "sub", "file"), "text", 0o644)
	for _, err := range []error{os.Symlink("/etc/passwd", filepath.Join(dir, "link")), os.Chown(filepath.Join(dir, "sub", "file"), 7, 8),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), os.Chmod(dir, 0o751), os.Chown(dir, 9, 0), os.Symlink("/nowhere", filepath.Join(dir, "sub", "dangling")), os.Mkdir(filepath.Join(root, "ro"), 0o755), os.Mkdir(filepath.Join(root, "fresh"), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := testkit.Fingerprint(t, root)
	for name, spec := range map[string]*specs.Spec{"plain": exampleSpec("/probe"), "keeper": exampleSpec("/probe")} {
		spec.Process.Args = append(spec.Process.Args, "-try", "read:/data/sub/file", "-try", "create:/data/sub/new", "-try", "read:/data/link", "-ls", "/data", "-ls", "/data/sub", "-ls", "/",
			"-try", "create:/ro/x", "-try", "read:/ro/sub/file", "-try", "create:/fresh/x")
		if name == "keeper" {
			spec.Process.Cwd = "/data"
		}
		r := probeIn(t, Input{Spec: spec, Root: root},
			specs.Mount{Destination: "/data", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "tmpcopyup", "size=1m"}},
			specs.Mount{Destination: "/ro", Type: "bind", Source: dir, Options: []string{"bind"}},
			specs.Mount{Destination: "/ro", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "ro"}},
			specs.Mount{Destination: "/fresh", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "mode=700"}})
		var got []string
		for _, try := range r.Tries {
			got = append(got, try.Value+try.Errno)
		}
		if want := []string{"text", "", "root:x", "EROFS", "text", ""}; len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || !strings.HasPrefix(got[2], want[2]) || !slices.Equal(got[3:], want[3:]) {
			t.Errorf("%q, want %q", got, want)
		}
		for _, n := range append(append(r.Dirs["/data"], r.Dirs["/data/sub"]...), r.Dirs["/"]...) {
			switch {
			case n.Name == "file" && (n.UID != 7 || n.GID != 8 || n.Mode != "-rw-r--r--"), n.Name == "link" && n.Link != "/etc/passwd",
				n.Name == "fifo" && n.Mode != "prw-------", n.Name == "data" && (n.Mode != "drwxr-x--x" || n.UID != 9), n.Name == "fresh" && n.Mode != "drwx------":
				t.Errorf("%+v", n)
			}
		}
		if len(r.Dirs["/data"]) != 3 || len(r.Dirs["/data/sub"]) != 2 {
			t.Errorf("%+v", r.Dirs)
		}
		if m, _ := procfs.Mounts(r.Mounts).At("/data"); m.Type != "tmpfs" || !slices.Contains(m.Options, "nosuid") {
			t.Errorf("%v", m)
		}
	}
	if diff := before.Diff(testkit.Fingerprint(t, root)); len(diff) > 0 {
		t.Errorf("the image changed: %v", diff)
	}
}

// A mount that is there can be changed: its attributes, and its file system's own
// parameters.
func TestMountRemount(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	r := probeIn(t, Input{Spec: exampleSpec("/probe")},
		specs.Mount{Destination: "/dev/shm", Options: []string{"bind", "remount", "ro", "nosuid", "noexec"}},
		specs.Mount{Destination: "/dev", Options: []string{"remount", "size=128k", "nosuid", "noexec"}})
	if m, _ := procfs.Mounts(r.Mounts).At("/dev/shm"); !slices.Contains(m.Options, "ro") || !slices.Contains(m.Options, "noexec") || slices.Contains(m.Super, "ro") {
		t.Errorf("%v", m)
	}
	if m, _ := procfs.Mounts(r.Mounts).At("/dev"); !slices.Contains(m.Super, "size=128k") || !slices.Contains(m.Options, "noexec") {
		t.Errorf("%v", m)
	}
	_, err := runIn(t, Input{Spec: exampleSpec("/probe")}, specs.Mount{Destination: "/etc", Options: []string{"bind", "remount", "ro"}})
	if err == nil {
		t.Error("what is no mount was changed")
	}
}

// Absolute links on the way to a mount lead to the container's own places.
func TestMountTargetsBehindLinks(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	root, file := testkit.Rootfs(t), filepath.Join(t.TempDir(), "file")
	testkit.WriteFile(t, file, "mounted", 0o644)
	testkit.WriteFile(t, filepath.Join(root, "etc", "real"), "", 0o644)
	for name, target := range map[string]string{"var/run": "/run", "etc/link": "/etc/real", "nowhere": "/no/such/place"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	r := probeIn(t, Input{Root: root, Spec: exampleSpec("/probe", "-try", "read:/etc/real")},
		specs.Mount{Destination: "/var/run/app/data", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/etc/link", Type: "bind", Source: file, Options: []string{"bind"}})
	if _, ok := procfs.Mounts(r.Mounts).At("/run/app/data"); !ok {
		t.Errorf("%v", r.Mounts)
	}
	if r.Tries[0].Value != "mounted" {
		t.Errorf("%+v", r.Tries)
	}
	_, err := runIn(t, Input{Root: root, Spec: exampleSpec("/probe")}, specs.Mount{Destination: "/nowhere/data", Type: "tmpfs", Source: "tmpfs"})
	if err == nil || !strings.Contains(Hint(err), "link") {
		t.Errorf("a link to nothing: %v, hint %q", err, Hint(err))
	}
}

// A read-only root keeps the attributes that its mount has, and read-only paths of the
// image are so, be they files or directories; those that are not there do no harm.
func TestReadonlyKeepsWhatTheMountHas(t *testing.T) {
	testkit.Leftovers(t)
	dir := own(t, unix.MS_NOSUID|unix.MS_NODEV)
	root := filepath.Join(dir, "root")
	if err := os.CopyFS(root, os.DirFS(testkit.Rootfs(t))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tmp", "proc", "sys", "dev", "run"} {
		_ = os.Mkdir(filepath.Join(root, name), 0o755) // most are there
	}
	for _, readonly := range []bool{false, true} {
		spec := exampleSpec("/probe", "-try", "write:/etc/passwd", "-try", "create:/home/x", "-try", "write:/etc/group", "-try", "read:/dev/null", "-try", "open-rw:/dev/null", "-try", "open:/run/masked", "-ls", "/var")
		spec.Root.Readonly = readonly
		spec.Linux.ReadonlyPaths = append(spec.Linux.ReadonlyPaths, "/etc/passwd", "/home", "/missing", "/etc/passwd/x", "/dev/full")
		spec.Linux.MaskedPaths = append(spec.Linux.MaskedPaths, "/var")
		r := probeIn(t, Input{Spec: spec, Root: root})
		var got []string
		for _, try := range r.Tries {
			got = append(got, try.Errno)
		}
		want := []string{"EROFS", "EROFS", "", "", "", "ENOENT"}
		if readonly {
			want[2] = "EROFS"
		}
		if !slices.Equal(got, want) {
			t.Errorf("read-only %v: %q, want %q", readonly, got, want)
		}
		points := []string{"/", "/etc/passwd", "/home"}
		for _, p := range points {
			m, _ := procfs.Mounts(r.Mounts).At(p)
			if !slices.Contains(m.Options, "nosuid") || !slices.Contains(m.Options, "nodev") || slices.Contains(m.Options, "ro") != (readonly || p != "/") {
				t.Errorf("read-only %v: %s: %v", readonly, p, m)
			}
		}
		if m, _ := procfs.Mounts(r.Mounts).At("/dev/full"); !slices.Contains(m.Options, "ro") || slices.Contains(m.Options, "nodev") {
			t.Errorf("/dev/full: %v", m)
		}
	}
}

// A working directory that the image lacks cannot be made when nobody may write: the
// error says so in words.
func TestReadonlyRootWithoutWorkingDirectory(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	spec := exampleSpec("/probe")
	spec.Root.Readonly, spec.Process.Cwd = true, "/not/there"
	step := stepError(t, spec)
	if hint := Hint(step); step.Step.From != "/process/cwd" || !strings.Contains(hint, "working directory") || !strings.Contains(hint, "read-only") {
		t.Errorf("%v, hint %q", step, hint)
	}
}

// An id-mapped bind shows its files with other owners, and makes files with the owners
// that they have in the file system. In a user namespace its own map is the default.
func TestIDMappedMounts(t *testing.T) {
	testkit.RequireRoot(t)
	if !machine(t).HasMountSetattr() {
		spec := exampleSpec("/probe")
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: t.TempDir(), Options: []string{"bind"}, UIDMappings: oneID(0, 7), GIDMappings: oneID(0, 8)})
		refused(t, spec, "id-mapped mounts need Linux 5.12")
		return
	}
	testkit.Leftovers(t)
	dir := mappable(t)
	if err := errors.Join(os.Chmod(dir, 0o777), os.Mkdir(filepath.Join(dir, "sub"), 0o755)); err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, filepath.Join(dir, "file"), "text", 0o600)
	user := userSpec()
	user.Process.Args = []string{"/probe", "-ls", "/m", "-write", "/m/new=x"}
	for name, c := range map[string]struct {
		spec     *specs.Spec
		mount    specs.Mount
		uid, gid int
	}{
		"maps":           {exampleSpec("/probe", "-ls", "/m", "-write", "/m/new=x"), specs.Mount{Options: []string{"rbind"}, UIDMappings: oneID(0, 7), GIDMappings: oneID(0, 8)}, 7, 8},
		"user namespace": {user, specs.Mount{Options: []string{"bind", "idmap", "rprivate"}}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(filepath.Join(dir, "new"))
			c.mount.Destination, c.mount.Type, c.mount.Source = "/m", "bind", dir
			if name == "maps" {
				c.spec.Process.User = specs.User{UID: 7, GID: 8}
			}
			root := testkit.Rootfs(t)
			if err := os.Mkdir(filepath.Join(root, "m"), 0o755); err != nil { // the user namespace may not
				t.Fatal(err)
			}
			r := probeIn(t, Input{Spec: c.spec, Root: root}, c.mount)
			seen := 0
			for _, n := range r.Dirs["/m"] {
				if n.Name == "file" {
					seen++
					if n.UID != c.uid || n.GID != c.gid {
						t.Errorf("%+v: want owner %d:%d", n, c.uid, c.gid)
					}
				}
			}
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(dir, "new"), &st); err != nil || st.Uid != 0 || st.Gid != 0 || seen != 1 {
				t.Errorf("made with owner %d:%d, error %v; %d files seen", st.Uid, st.Gid, err, seen)
			}
			if m, _ := procfs.Mounts(r.Mounts).At("/m"); m.Shared() || !slices.Contains(m.Options, "idmapped") {
				t.Errorf("%v", m)
			}
		})
	}
}

// A root file system whose files are root's on the disk is that of a user namespace's own
// root, who may write to it, by a mount at / that maps its owners.
func TestIDMappedRoot(t *testing.T) {
	testkit.RequireRoot(t)
	mappable(t) // or skip
	testkit.Leftovers(t)
	spec := userSpec()
	spec.Process.Args = []string{"/probe", "-ls", "/", "-write", "/new=x"}
	root := testkit.Rootfs(t)
	spec.Mounts = append([]specs.Mount{{Destination: "/", Type: "bind", Source: root, Options: []string{"rbind", "idmap"}}}, spec.Mounts...)
	r := probeIn(t, Input{Spec: spec, Root: root}, specs.Mount{Destination: "/m", Type: "tmpfs"})
	var names []string
	for _, n := range r.Dirs["/"] {
		if n.Name == "probe" || n.Name == "etc" {
			names = append(names, n.Name)
			if n.UID != 0 || n.GID != 0 {
				t.Errorf("%+v: want owner 0:0", n)
			}
		}
	}
	if len(names) != 2 {
		t.Errorf("/ has %+v", r.Dirs["/"])
	}
	if m, _ := procfs.Mounts(r.Mounts).At("/"); m.Shared() || !slices.Contains(m.Options, "idmapped") {
		t.Errorf("%v", m)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "new"), &st); err != nil || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("made with owner %d:%d, error %v", st.Uid, st.Gid, err)
	}
}

// A map of the root that cannot be is refused, and never forgotten.
func TestIDMappedRootThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		mount specs.Mount
		want  string
	}{
		{specs.Mount{Type: "bind", Source: "/", Options: []string{"idmap"}}, "needs uidMappings and gidMappings"},
		{specs.Mount{Type: "bind", Source: "/"}, "what root.path is for"},
		{specs.Mount{Type: "bind", Source: "/nothing/here", UIDMappings: oneID(0, 1), GIDMappings: oneID(0, 1)}, "no directory /nothing/here"},
		{specs.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/a:/b"}, UIDMappings: oneID(0, 1), GIDMappings: oneID(0, 1)}, "the kernel maps no overlay"},
		{specs.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/a:/b", "idmap"}}, "the kernel maps no overlay"},
	} {
		c.mount.Destination = "/"
		spec := exampleSpec("/probe")
		spec.Mounts = append([]specs.Mount{c.mount}, spec.Mounts...)
		_, err := Compile(Input{ID: "x", Root: "/rootfs", Spec: spec, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12}), Sources: Probe(spec)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v: want one with %q", c.mount, err, c.want)
		}
	}
}

// Layers that are EROFS images are the host's root's to mount: a user namespace that does not have them mapped is told so.
func TestImagesInAUserNamespaceAreRefused(t *testing.T) {
	for _, at := range []string{"/", "/img"} {
		spec := userSpec()
		spec.Mounts = append([]specs.Mount{{Destination: at, Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/a:/b", rootfs.ImageOption + "/a.erofs:/a"}}}, spec.Mounts...)
		_, err := Compile(Input{ID: "x", Root: "/rootfs", Spec: spec, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12}), Sources: paperDevices(), MapLayers: rootfs.MapLayers})
		if err == nil || !strings.Contains(err.Error(), "can only be mounted by the host's root") {
			t.Errorf("on %s: error %v", at, err)
		}
	}
}

func oneID(inside, outside uint32) []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: inside, HostID: outside, Size: 1}}
}

// mappable is a directory on a file system that can be mounted with a map: a tmpfs can
// since Linux 6.3.
func mappable(t *testing.T) string {
	t.Helper()
	if dir := own(t, 0); machine(t).Kernel.AtLeast(6, 3) {
		return dir
	}
	t.Skip("this kernel has no id-mapped tmpfs (Linux 6.3)")
	return ""
}

// What cannot be mapped is refused in words.
func TestIDMappedMountsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		mount specs.Mount
		want  string
	}{
		{specs.Mount{Type: "bind", Options: []string{"idmap"}}, "needs uidMappings and gidMappings"},
		{specs.Mount{Type: "bind", UIDMappings: oneID(0, 1)}, "both uidMappings and gidMappings"},
		{specs.Mount{Type: "tmpfs", UIDMappings: oneID(0, 1), GIDMappings: oneID(0, 1)}, "only a bind"},
		{specs.Mount{Type: "bind", Options: []string{"idmap=uids=0-1-1"}}, "belong in uidMappings"},
		{specs.Mount{Type: "bind", Options: []string{"tmpcopyup"}}, "is for a tmpfs"},
	} {
		c.mount.Destination, c.mount.Source = "/m", dir
		spec := exampleSpec("/probe")
		spec.Mounts = append(spec.Mounts, c.mount)
		_, err := Compile(Input{ID: "x", Root: "/rootfs", Spec: spec, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12}), Sources: Probe(spec)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v: want one with %q", c.mount, err, c.want)
		}
	}
	testkit.RequireRoot(t)
	if !machine(t).HasMountSetattr() {
		return
	}
	testkit.Leftovers(t)
	_, err := runIn(t, Input{Spec: exampleSpec("/probe")}, specs.Mount{Destination: "/m", Type: "bind", Source: "/sys", Options: []string{"bind"}, UIDMappings: oneID(0, 7), GIDMappings: oneID(0, 8)})
	if err == nil || !strings.Contains(Hint(err), "id-mapped") {
		t.Errorf("a file system that cannot: %v, hint %q", err, Hint(err))
	}
}

// In a user namespace a device is the host's, bound: if that is another one than is
// asked for, it is refused, and what is no device is no device.
func TestDeviceOfTheHostIsTheOneAskedFor(t *testing.T) {
	spec := userSpec()
	spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
	fuse := host.Device{Kind: unix.S_IFCHR, Major: 10, Minor: 229}
	for _, c := range []struct {
		path string
		has  host.Source
		want string
	}{
		{"/dev/fuse", host.Source{Kind: host.File, Device: fuse}, ""},
		{"/dev/fuse", host.Source{Kind: host.File, Device: host.Device{Kind: unix.S_IFCHR, Major: 10, Minor: 237}}, "is character device 10:237, not character device 10:229"},
		{"/dev/fuse", host.Source{Kind: host.File, Device: host.Device{Kind: unix.S_IFBLK, Major: 10, Minor: 229}}, "is block device"},
		{"/dev/fuse", host.Source{Kind: host.File}, "is no device"},
		{"/dev/fuse", host.Source{}, "does not exist"},
		{"/dev/null", host.Source{Kind: host.File}, "/dev/null is no device"},
	} {
		sources := paperDevices()
		sources["/dev/fuse"] = host.Source{Kind: host.File, Device: fuse}
		sources[c.path] = c.has
		_, err := Compile(Input{ID: "x", Root: "/rootfs", Spec: spec, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12}), Sources: sources})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s is %+v: error %v: want one with %q", c.path, c.has, err, c.want)
		}
	}
	if got := Probe(spec)["/dev/null"].Device; got != (host.Device{Kind: unix.S_IFCHR, Major: 1, Minor: 3}) {
		t.Errorf("/dev/null is %s", got)
	}
}

// An image may have as many layers as the kernel takes (500), wherever they lie: names
// that are too long together are shortened, or given one by one.
func TestManyLayers(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	base := own(t, 0)
	layers := filepath.Join(base, strings.Repeat("a-long-name-", 8), "layers")
	fixture := filepath.Join(layers, "fixture")
	if err := os.MkdirAll(layers, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(fixture, os.DirFS(testkit.Rootfs(t))); err != nil {
		t.Fatal(err)
	}
	for i := range 480 {
		testkit.WriteFile(t, filepath.Join(layers, "layer"+strconv.Itoa(i), "from", strconv.Itoa(i)), "x", 0o644)
	}
	for _, n := range []int{3, 200, 480} {
		names := []string{}
		for i := range n {
			names = append(names, filepath.Join(layers, "layer"+strconv.Itoa(i)))
		}
		names = append(names, fixture)
		at := filepath.Join(base, "root"+strconv.Itoa(n))
		for _, dir := range []string{at, at + ".upper", at + ".work"} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		spec := exampleSpec("/probe", "-ls", "/from", "-try", "create:/new")
		spec.Mounts = append([]specs.Mount{{Destination: "/", Type: "overlay", Source: "overlay",
			Options: []string{"lowerdir=" + strings.Join(names, ":"), "upperdir=" + at + ".upper", "workdir=" + at + ".work", "index=off"}}}, spec.Mounts...)
		if n == 480 && !machine(t).HasOverlayLowerAppend() {
			_, err := Compile(Input{ID: "x", Spec: spec, Root: at, Facts: machine(t)})
			if err == nil || !strings.Contains(err.Error(), "Linux 6.7") {
				t.Errorf("%d layers: error %v", n, err)
			}
			continue
		}
		r := probeIn(t, Input{Spec: spec, Root: at})
		if len(r.Dirs["/from"]) != n || !r.Tries[0].OK {
			t.Errorf("%d layers: %d files, %+v", n, len(r.Dirs["/from"]), r.Tries)
		}
	}
}
