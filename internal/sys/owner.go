package sys

import (
	"io/fs"
	"os"
	"syscall"
)

// unknownOwner is who owns files of users whom a user namespace does not know (/proc/sys/kernel/overflowuid): there, the
// system's files are such.
const unknownOwner = 65534

// Trusted reports whether a file belongs to the user or to root. Root may have another's HOME or XDG_CONFIG_HOME in its
// environment, after su or sudo: what is found there by itself must not decide for root.
func Trusted(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || int(st.Uid) == os.Geteuid() || st.Uid == unknownOwner)
}
