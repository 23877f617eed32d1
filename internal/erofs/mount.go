package erofs

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount has the kernel read the image in a file, and opens the root of it (O_PATH). The mount is attached nowhere and goes
// with the last descriptor of it. It takes root, Linux 6.12 or later (CONFIG_EROFS_FS_BACKED_BY_FILE), and a file system
// that the kernel can read such files from: none in memory, for one (ENOTBLK). Errors have what the kernel says of the image.
func Mount(image string) (*os.File, error) {
	fs, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen erofs", err)
	}
	defer unix.Close(fs)
	err = unix.FsconfigSetString(fs, "source", image)
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return nil, &os.PathError{Op: "mount the EROFS image", Path: image, Err: withMessages(fs, err)}
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), image), nil
}

// withMessages adds what the kernel has to say about a context of fsopen(2).
func withMessages(fs int, err error) error {
	buf := make([]byte, 1024)
	for {
		n, rerr := unix.Read(fs, buf)
		if rerr != nil || n == 0 {
			return err
		}
		if said := strings.TrimSpace(string(buf[:n])); strings.HasPrefix(said, "e ") {
			err = fmt.Errorf("%w (%s)", err, said[2:])
		}
	}
}
