package security

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/runtime"
)

// A process that has a volume, and swaps a directory in it for a symbolic link while a
// part of the volume is mounted elsewhere, has nothing of the host shown there.
func TestRacingLinksInSubpathsLeadNowhere(t *testing.T) {
	begin(t)
	outside := t.TempDir()
	testkit.WriteFile(t, filepath.Join(outside, "sub", "secret"), "of the host", 0o644)
	e := engine.New(engine.Options{Root: t.TempDir()})
	if _, err := e.CreateVolume(t.Context(), engine.VolumeRequest{Name: "shared"}); err != nil {
		t.Fatal(err)
	}
	v, err := e.Volume(t.Context(), "shared")
	if err != nil {
		t.Fatal(err)
	}
	dir, link := filepath.Join(v.Path, "a"), filepath.Join(v.Path, "b")
	testkit.WriteFile(t, filepath.Join(dir, "sub", "mine"), "of the volume", 0o644)
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	swapping(t, dir, link)
	ran := 0
	for range 60 {
		report, err := runBy(t, e, container.Config{Mounts: []container.Mount{
			{Type: container.MountVolume, Source: "shared", Target: "/part", Subpath: "a/sub"},
		}}, attempts("open:/part/secret", "open:/part/mine")...)
		switch {
		case err == nil && len(report.Tries) != 2:
			t.Fatalf("got %d attempts", len(report.Tries))
		case err == nil && report.Tries[0].OK:
			t.Fatal("a file of the host was shown")
		case err == nil && report.Tries[1].OK:
			ran++
		}
	}
	if ran == 0 {
		t.Error("no container ran: there was no race")
	}
	t.Logf("%d of 60 containers ran", ran)
}

// What an image names as the place of a volume is looked for inside the image: neither
// dots nor links have files of the host copied (CVE-2022-23648).
func TestVolumesOfImagesTakeNothingOfTheHost(t *testing.T) {
	begin(t)
	outside := t.TempDir()
	testkit.WriteFile(t, filepath.Join(outside, "secret"), "of the host", 0o644)
	tree := testkit.Rootfs(t)
	if err := errors.Join(os.Symlink(outside, filepath.Join(tree, "absolute")), os.Symlink("../../../../../../.."+outside, filepath.Join(tree, "relative")),
		os.MkdirAll(filepath.Join(tree, outside), 0o755), // where the links lead inside
		os.Mkdir(filepath.Join(tree, "real"), 0o755), os.WriteFile(filepath.Join(tree, "real", "mine"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Options{Root: t.TempDir()})
	places := map[string]struct{}{"/absolute": {}, "/relative": {}, "/../../../../../../../.." + outside: {}, "/real": {}, "relative/name": {}, "/": {}}
	if _, err := e.Import(t.Context(), engine.ImportRequest{Path: tree, Name: "odd:1", Config: v1.ImageConfig{Cmd: []string{"/probe"}, Volumes: places}}); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	exit, err := e.Run(t.Context(), engine.RunRequest{Config: container.Config{Image: "odd:1", Name: "odd"}, Streams: engine.Streams{Stdio: [3]*os.File{in, nil, nil}}})
	if err != nil || exit.Code != 0 {
		t.Fatalf("%+v, %v", exit, err)
	}
	list, err := e.Volumes(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	mine := 0
	for _, v := range list {
		entries, err := os.ReadDir(v.Path)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if entry.Name() == "secret" {
				t.Errorf("volume %s has a file of the host", v.Name)
			}
			if entry.Name() == "mine" {
				mine++
			}
		}
	}
	if len(list) != 4 || mine != 1 {
		t.Errorf("%d volumes, and %d have the image's own file; want 4 and 1", len(list), mine)
	}
	if _, err := e.Remove(t.Context(), engine.RemoveRequest{Container: "odd", Volumes: true}); err != nil {
		t.Error(err)
	}
	if list, err = e.Volumes(t.Context(), false); err != nil || len(list) != 0 {
		t.Errorf("%d volumes are left, %v", len(list), err)
	}
	if data, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(data) != "of the host" {
		t.Errorf("the file of the host: %q, %v", data, err)
	}
}

// An image has no volume in what the kernel shows of itself.
func TestVolumesOfImagesStayOutOfProc(t *testing.T) {
	begin(t)
	e := engine.New(engine.Options{Root: t.TempDir()})
	tree := testkit.Rootfs(t)
	for _, place := range []string{"/proc", "/proc/sys/kernel", "/sys", "/sys/fs/cgroup"} {
		config := v1.ImageConfig{Cmd: []string{"/probe"}, Volumes: map[string]struct{}{place: {}}}
		if _, err := e.Import(t.Context(), engine.ImportRequest{Path: tree, Name: "odd:2", Config: config}); err != nil {
			t.Fatal(err)
		}
		_, err := e.Run(t.Context(), engine.RunRequest{Config: container.Config{Image: "odd:2", Name: "odd", AutoRemove: true}})
		if err == nil || !strings.Contains(err.Error(), "wants a volume on "+place) {
			t.Errorf("%s: error %v", place, err)
		}
	}
	if list, err := e.Volumes(t.Context(), false); err != nil || len(list) != 0 {
		t.Errorf("%d volumes are left, %v", len(list), err)
	}
}

// A link of an image leads no volume, and nothing that is mounted by flags, into /proc.
func TestLinksOfImagesLeadNoVolumeIntoProc(t *testing.T) {
	begin(t)
	e := engine.New(engine.Options{Root: t.TempDir()})
	tree, dir := testkit.Rootfs(t), t.TempDir()
	if err := errors.Join(os.Symlink("/proc", filepath.Join(tree, "foo")), os.Symlink("../foo/sys", filepath.Join(tree, "etc", "chain"))); err != nil {
		t.Fatal(err)
	}
	config := v1.ImageConfig{Cmd: []string{"/probe"}, Volumes: map[string]struct{}{"/foo": {}}}
	if _, err := e.Import(t.Context(), engine.ImportRequest{Path: tree, Name: "odd:3", Config: config}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []container.Config{
		{Image: "odd:3"},
		{Rootfs: tree, Mounts: []container.Mount{{Type: container.MountVolume, Source: "v", Target: "/foo"}}},
		{Rootfs: tree, Mounts: []container.Mount{{Type: container.MountBind, Source: dir, Target: "/etc/chain"}}},
		{Rootfs: tree, Mounts: []container.Mount{{Type: container.MountTmpfs, Target: "/foo/sys/kernel"}}},
	} {
		c.Name, c.AutoRemove, c.Args = "odd", true, []string{"/probe"}
		_, err := e.Run(t.Context(), engine.RunRequest{Config: c})
		if err == nil || !strings.Contains(runtime.Hint(err), "leads to where the kernel shows itself") {
			t.Errorf("%+v: error %v", c.Mounts, err)
		}
	}
}

// A process that has a volume, and swaps a directory in it for a link to /proc while
// something is mounted below, has it mounted in the volume or nowhere.
func TestRacingLinksLeadNoMountIntoProc(t *testing.T) {
	begin(t)
	shared := t.TempDir()
	file := filepath.Join(t.TempDir(), "file")
	testkit.WriteFile(t, file, "mounted", 0o644)
	dir, link := filepath.Join(shared, "a"), filepath.Join(shared, "b")
	testkit.WriteFile(t, filepath.Join(dir, "uptime"), "", 0o644)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sys"), 0o755), os.Symlink("/proc", link)); err != nil {
		t.Fatal(err)
	}
	swapping(t, dir, link)
	ran := 0
	for range 60 {
		report, err := run(t, container.Config{Mounts: []container.Mount{
			{Type: container.MountBind, Source: shared, Target: "/vol"},
			{Type: container.MountTmpfs, Target: "/vol/a/sys"},
			{Type: container.MountBind, Source: file, Target: "/vol/a/uptime"},
		}}, attempts("open:/proc/sys/kernel/ostype", "read:/proc/uptime")...)
		var step *runtime.StepError
		switch {
		case err == nil && (len(report.Tries) != 2 || !report.Tries[0].OK || report.Tries[1].Value == "mounted"):
			t.Fatalf("something is mounted over /proc: %+v", report.Tries)
		case err == nil:
			ran++
		case !errors.As(err, &step):
			t.Fatal(err)
		}
	}
	t.Logf("%d of 60 containers ran", ran)
}

// keepForever makes a file one that cannot be changed, where the file system has such, until the end of the test.
func keepForever(t *testing.T, path string) {
	t.Helper()
	set := func(flags int) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err := set(unix.STATX_ATTR_IMMUTABLE); err != nil { // the same number as FS_IMMUTABLE_FL
		t.Logf("without a file that cannot be changed: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := set(0); err != nil {
			t.Error(err)
		}
	})
}

// stampsOf is what a fingerprint leaves out: the inode of each file, its blocks, the times of the last access and of the last change of
// the inode, and attributes such as that it cannot be changed.
func stampsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	stamps := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Statx_t
		if err == nil {
			err = unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
		}
		stamps[path] = fmt.Sprint(st.Ino, st.Blocks, st.Atime, st.Ctime, st.Attributes)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return stamps
}

// A tree of the host that is bound in whatever way is what it was, to the byte.
func TestBoundTreesOfTheHostStayAsTheyAre(t *testing.T) {
	begin(t)
	tree := t.TempDir()
	testkit.WriteFile(t, filepath.Join(tree, ".hidden", "file"), "text", 0o640)
	file := filepath.Join(tree, ".hidden", "file")
	sparse, err := os.Create(filepath.Join(tree, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	old := unix.Timespec{Sec: 86400, Nsec: 7}
	err = errors.Join(sparse.Truncate(8<<20), sparse.Close(), os.Link(file, filepath.Join(tree, "also")), os.Symlink("/etc/passwd", filepath.Join(tree, "link")),
		unix.Setxattr(file, "user.color", []byte("blue"), 0), unix.Setxattr(file, "trusted.x", []byte("y"), 0), os.Chown(file, 33, 34), os.Chmod(file, 0o4711),
		unix.Mknod(filepath.Join(tree, "fifo"), unix.S_IFIFO|0o600, 0), unix.UtimesNano(file, []unix.Timespec{old, old}), unix.UtimesNano(tree, []unix.Timespec{old, old}))
	if err != nil {
		t.Fatal(err)
	}
	keepForever(t, filepath.Join(tree, "sparse"))
	later := unix.NsecToTimespec(time.Now().Add(time.Hour).UnixNano()) // so that reading does not change it
	for _, path := range []string{"", ".hidden", "also", "link", "fifo"} {
		mtime := unix.Timespec{Nsec: unix.UTIME_OMIT}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(tree, path), []unix.Timespec{later, mtime}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	before, stamps := testkit.Fingerprint(t, tree), stampsOf(t, tree)
	bind := func(m container.Mount) container.Mount {
		m.Type, m.Source = container.MountBind, tree
		if m.Target == "" {
			m.Target = "/shown"
		}
		return m
	}
	for _, m := range []container.Mount{{}, {ReadOnly: true}, {Propagation: "rshared"}, {Propagation: "rslave"}, {Propagation: "private"}, {Recursion: container.RecursionDisabled},
		{ReadOnly: true, Recursion: container.RecursionWritable}, {ReadOnly: true, Propagation: "rprivate", Recursion: container.RecursionReadOnly},
		{CreateSource: true}, {Target: "/etc"}, {Target: "/new/and/deep"}} {
		if _, err := run(t, container.Config{Mounts: []container.Mount{bind(m)}}); err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if diff := before.Diff(testkit.Fingerprint(t, tree)); len(diff) > 0 {
			t.Fatalf("%+v: %v", m, diff)
		}
		var st unix.Stat_t
		if err := unix.Stat(tree, &st); err != nil || st.Mtim != old {
			t.Fatalf("%+v: time %v, %v", m, st.Mtim, err)
		}
		if now := stampsOf(t, tree); !maps.Equal(now, stamps) {
			t.Fatalf("%+v: %v\nand was %v", m, now, stamps)
		}
	}
	if v, err := container.ParseVolume(tree+":/shown:U", "/"); err == nil {
		t.Errorf("the owners of files of the host would be changed: %+v", v)
	}
}
