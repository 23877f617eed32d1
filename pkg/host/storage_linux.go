package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// magics are the types of file systems that matter, statfs(2).
var magics = map[uint32]string{
	unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs", unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs",
	unix.NFS_SUPER_MAGIC: "nfs", unix.CIFS_SUPER_MAGIC: "cifs", unix.SMB2_SUPER_MAGIC: "smb3", unix.V9FS_MAGIC: "9p",
	unix.FUSE_SUPER_MAGIC: "fuse", unix.MSDOS_SUPER_MAGIC: "vfat", unix.EXFAT_SUPER_MAGIC: "exfat", unix.ECRYPTFS_SUPER_MAGIC: "ecryptfs",
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.F2FS_SUPER_MAGIC: "f2fs", unix.EROFS_SUPER_MAGIC_V1: "erofs",
}

// ProbeStorage finds out about a directory, or, where it has not been made yet, about the one in which it would be.
func ProbeStorage(dir string) (Storage, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return Storage{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		dir = filepath.Dir(dir)
	}
	on := Storage{FileSystem: magics[uint32(st.Type)], Overlay: hasFileSystem("overlay"), Erofs: hasFileSystem("erofs")}
	on.ProbeFuse()
	return on, nil
}

// ProbeFuse finds the program fuse-overlayfs, and who may open the device that it needs.
func (s *Storage) ProbeFuse() {
	const device, others = "/dev/fuse", 0o006
	s.FuseOverlay = findProgram(FuseSnapshotter)
	s.FuseDevice = unix.Access(device, unix.R_OK|unix.W_OK) == nil
	var st unix.Stat_t
	s.FuseForAll = unix.Stat(device, &st) == nil && st.Mode&others == others
}

// hasFileSystem reports whether the kernel has a file system, or a module that it would load when somebody mounts it.
func hasFileSystem(name string) bool {
	known, err := sys.ReadFile("/proc/filesystems", maxProcFile)
	if err != nil {
		return true // whoever mounts it will hear
	}
	for line := range strings.Lines(string(known)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[len(fields)-1] == name {
			return true
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return true
	}
	const maxModules = 4 << 20
	list, err := sys.ReadFile(filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]), "modules.dep"), maxModules)
	return err == nil && strings.Contains(string(list), "/"+name+".ko")
}
