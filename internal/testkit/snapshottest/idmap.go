package snapshottest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/snapshot"
)

// idMapped: a view can be mounted with other owners than the layers name, with none of it copied for that; where the
// kernel cannot do it, pkg/host knows beforehand.
func idMapped(t *testing.T, x *suite) {
	maps := []snapshot.IDMap{{Container: 0, Host: 100000, Size: 1000}, {Container: 5000, Host: 300000, Size: 1}}
	one := layer(t, file("root", "x"), file("user", "x").owned(999, 5000), dir("d").owned(5, 6), file("d/deep", "x").owned(5, 6))
	two := layer(t, file("above", "x").owned(7, 7), file("stranger", "x").owned(4000, 0), gone("", "root"))
	const nobody = 65534
	for _, c := range []struct {
		name     string
		archives [][]byte
		want     map[string][2]uint32
	}{
		{"no layers", nil, map[string][2]uint32{".": {100000, 100000}}},
		{"one layer", [][]byte{one}, map[string][2]uint32{".": {100000, 100000}, "root": {100000, 100000}, "user": {100999, 300000}, "d": {100005, 100006}, "d/deep": {100005, 100006}}},
		{"two layers", [][]byte{one, two}, map[string][2]uint32{".": {100000, 100000}, "user": {100999, 300000}, "d/deep": {100005, 100006}, "above": {100007, 100007}, "stranger": {nobody, 100000}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var chain snapshot.ChainID
			if c.archives != nil {
				chain = unpack(t, x.Store, c.archives...)
			}
			m, err := x.MappedView(t.Context(), chain, maps, maps)
			if err != nil {
				t.Fatal(err)
			}
			if problem := noIDMap(t, x.beside); problem != "" && c.archives != nil {
				mustRefuse(t, m, problem)
				return
			}
			within(t, []snapshot.Mount{m}, func(dir string) error { return ownedAs(t, dir, c.want) })
			if c.archives != nil {
				within(t, []snapshot.Mount{{Type: "bind", Source: m.Source, Options: []string{"bind", "ro"}}}, func(dir string) error {
					return ownedAs(t, dir, map[string][2]uint32{".": {0, 0}, "user": {999, 5000}})
				})
			}
		})
	}
	if _, err := x.MappedView(t.Context(), "", []snapshot.IDMap{{Container: 1, Host: 1, Size: 1}}, maps); err == nil {
		t.Error("a map without root was not refused")
	}
}

// ownedAs fails unless the files in dir have these owners, and dir cannot be written.
func ownedAs(t *testing.T, dir string, want map[string][2]uint32) error {
	for name, ids := range want {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Uid != ids[0] || st.Gid != ids[1] {
			t.Errorf("%s: owner %d:%d, error %v, want %d:%d", name, st.Uid, st.Gid, err, ids[0], ids[1])
		}
	}
	if _, err := os.Lstat(dir + "/root"); want["root"] == [2]uint32{} && len(want) > 2 && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a removed file is there: %v", err)
	}
	if err := os.WriteFile(dir+"/new", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a file can be made: %v", err)
	}
	return nil
}

// noIDMap is what pkg/host says of the directory's file system.
func noIDMap(t *testing.T, dir string) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	kernel, err := host.ParseKernel(unix.ByteSliceToString(u.Release[:]))
	if err != nil {
		t.Fatal(err)
	}
	on, err := host.ProbeStorage(dir)
	if err != nil {
		t.Fatal(err)
	}
	problem, _ := (&host.Facts{Kernel: kernel}).NoIDMap(on.FileSystem)
	return problem
}

// mustRefuse fails if the kernel makes a mount that pkg/host says it does not.
func mustRefuse(t *testing.T, m snapshot.Mount, problem string) {
	t.Helper()
	err := tryWithin([]snapshot.Mount{m}, t.TempDir(), func(string) error { return nil })
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		t.Errorf("%s, and yet: %v", problem, err)
	}
}

// mountMapped makes a bind with the maps of a user namespace that is made for it.
func mountMapped(m snapshot.Mount, target string) error {
	users, err := userNamespace(m.UIDMap, m.GIDMap)
	if err != nil {
		return err
	}
	defer users.Close()
	tree, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_RDONLY, Userns_fd: uint64(users.Fd())}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// userNamespace makes a user namespace with these maps and opens it. A process that waits for its input begins it.
func userNamespace(uids, gids []snapshot.IDMap) (*os.File, error) {
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: sysMaps(uids), GidMappings: sysMaps(gids), GidMappingsEnableSetgroups: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	return f, errors.Join(err, in.Close(), cmd.Wait())
}

func sysMaps(maps []snapshot.IDMap) []syscall.SysProcIDMap {
	var out []syscall.SysProcIDMap
	for _, m := range maps {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(m.Container), HostID: int(m.Host), Size: int(m.Size)})
	}
	return out
}
