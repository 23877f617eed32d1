package security

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
)

// What the default filter lets pass, and programs that serve or compute do not need, --security-opt
// seccomp=strict refuses: the first steps of attacks on neighbours in a network, on other processes,
// and on code of the kernel that is rarely used. It does so for a privileged container, too.
func TestStrictRefusesWhatTheDefaultAllows(t *testing.T) {
	begin(t)
	words := []string{"chroot:/", "mknod:/tmp/node",
		fmt.Sprintf("socket:%d,%d,%d", unix.AF_PACKET, unix.SOCK_RAW, 0),
		fmt.Sprintf("socket:%d,%d,%d", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER),
		fmt.Sprintf("syscall:%d,%d", unix.SYS_MEMFD_SECRET, 0),
		fmt.Sprintf("syscall:%d", unix.SYS_PROCESS_VM_READV),  // of nothing, of nobody: 0 bytes
		fmt.Sprintf("syscall:%d,%d", unix.SYS_PERSONALITY, 8), // the last, as it stays
	}
	r, err := run(t, container.Config{}, attempts(words...)...)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Tries) != len(words) {
		t.Fatalf("%d attempts", len(r.Tries))
	}
	for _, try := range r.Tries {
		if !try.OK && try.Errno != "ENOSYS" { // a kernel need not have secret memory
			t.Errorf("by default: %+v", try)
		}
	}
	for name, c := range map[string]container.Config{"": {}, "privileged": {Privileged: true}, "all capabilities": {CapAdd: []string{"ALL"}}} {
		t.Run(name, func(t *testing.T) {
			c.Security.Seccomp = container.SeccompStrict
			more := append(attempts(words...), attempts("mount", "unshare:user", "unshare:net", "add-key",
				fmt.Sprintf("syscall:%d", unix.SYS_BPF), fmt.Sprintf("syscall:%d", unix.SYS_IO_URING_SETUP), fmt.Sprintf("syscall:%d", unix.SYS_USERFAULTFD),
				fmt.Sprintf("syscall:%d", unix.SYS_PERF_EVENT_OPEN), fmt.Sprintf("syscall:%d", unix.SYS_SETNS), fmt.Sprintf("syscall:%d", unix.SYS_OPEN_BY_HANDLE_AT))...)
			r, err := run(t, c, more...)
			if err != nil {
				t.Fatal(err)
			}
			expectDenied(t, r, len(more)/2, "EPERM ENOSYS")
		})
	}
}
