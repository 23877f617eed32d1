package testkit

import (
	"testing"

	"github.com/containr/containr/internal/testkit/procfs"
)

// Mountinfo reads the mount table of the process pid (0: this process) or ends the test.
func Mountinfo(t testing.TB, pid int) procfs.Mounts {
	t.Helper()
	ms, err := procfs.Mountinfo(pid)
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

// Status reads /proc/PID/status of the process pid (0: this process) or ends the test.
func Status(t testing.TB, pid int) procfs.Status {
	t.Helper()
	s, err := procfs.ReadStatus(pid)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Namespaces reads the namespace inodes of the process pid (0: this process) or ends the test.
func Namespaces(t testing.TB, pid int) map[string]uint64 {
	t.Helper()
	ns, err := procfs.Namespaces(pid)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}
