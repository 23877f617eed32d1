package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// NetNS is a network namespace of a test's own: a host on the desk. It ends with the test.
type NetNS struct {
	t     testing.TB
	work  chan func()
	leave func() // ends the thread that is in it
	// Path leads to the namespace while the test runs.
	Path string
}

// NewNetNS makes one in which only the loopback device is up, and nothing is passed on.
func NewNetNS(t testing.TB) *NetNS {
	t.Helper()
	RequireRoot(t)
	n := &NetNS{t: t, work: make(chan func())}
	ready := make(chan error)
	ownThread(func() { // the namespace ends with the thread
		n.Path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range n.work {
			f()
		}
	})
	if err := <-ready; err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	t.Cleanup(func() { close(n.work) })
	n.Run("ip", "link", "set", "lo", "up")
	n.Do(func() {
		for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} { // as the host has it, it is at first
			if err := os.WriteFile("/proc/sys/net/"+path, []byte("0"), 0); err != nil {
				t.Error(err)
			}
		}
	})
	return n
}

// Do calls f in the namespace. f starts no goroutines that care.
func (n *NetNS) Do(f func()) {
	done := make(chan struct{})
	n.work <- func() { defer close(done); f() }
	<-done
}

// Command runs a command in the namespace; what it prints is returned with its error.
func (n *NetNS) Command(name string, args ...string) (out string, err error) {
	n.Do(func() {
		var b []byte
		b, err = exec.Command(name, args...).CombinedOutput()
		out = string(b)
	})
	return out, err
}

// Run is Command that has to succeed.
func (n *NetNS) Run(name string, args ...string) string {
	n.t.Helper()
	out, err := n.Command(name, args...)
	if err != nil {
		n.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Cable connects two namespaces by a pair of devices with these names and addresses.
func (n *NetNS) Cable(device string, addresses []string, other *NetNS, otherDevice string, otherAddresses []string) {
	n.t.Helper()
	n.Run("ip", "link", "add", device, "type", "veth", "peer", "name", otherDevice, "netns", other.Path)
	for _, end := range []struct {
		n         *NetNS
		device    string
		addresses []string
	}{{n, device, addresses}, {other, otherDevice, otherAddresses}} {
		for _, a := range end.addresses {
			args := []string{"address", "add", a, "dev", end.device}
			if strings.Contains(a, ":") {
				args = append(args, "nodad")
			}
			end.n.Run("ip", args...)
		}
		end.n.Run("ip", "link", "set", end.device, "up")
	}
}

// State is all that a network could have changed in the namespace: devices, addresses, routes, rules and kernel parameters,
// without what the kernel changes by itself: whether a device has a carrier, and addresses that it gives itself. As Leftovers does, it gives
// the kernel three seconds to free the cables of containers that have ended: those are down, and go with their other end.
func (n *NetNS) State() string {
	n.t.Helper()
	unplugged := regexp.MustCompile(`(?m)^\d+: ctr[^<]*<(BROADCAST|MULTICAST|NOARP|M-DOWN|NO-CARRIER|,)*>`)
	for end := time.Now().Add(settleTime); unplugged.MatchString(n.Run("ip", "-o", "link")) && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	return n.Run("sh", "-ec", `
ip -br link | awk '{print $1}'
ip -br address | awk '{for (i = 3; i <= NF; i++) if ($i !~ /^fe80/) print $1, $i}'
{ ip route; ip -6 route; } | grep -v fe80 | sed 's/ linkdown//; s/ *$//; s/ pref medium//' || :
nft list ruleset
cd /proc/sys/net
grep . ipv4/ip_forward ipv6/conf/all/forwarding ipv4/conf/*/route_localnet ipv6/conf/*/accept_ra`)
}

// RequireNft skips a test where nft(8) is missing.
func RequireNft(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skipf("needs nft, of the package nftables: %v", err)
	}
}

// ownThread runs f in a goroutine with a thread of its own, which ends with it. The process's first thread is none: it cannot end, and
// would stay in whatever namespace f has entered.
func ownThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f() // and it is never unlocked
			return
		}
		defer runtime.UnlockOSThread()
		begun := make(chan struct{})
		ownThread(func() {
			close(begun)
			f()
		})
		<-begun
	}()
}

// NetNSOf is the network namespace of a process, to be in while the test runs.
func NetNSOf(t testing.TB, pid int) *NetNS {
	t.Helper()
	n := &NetNS{t: t, work: make(chan func()), Path: fmt.Sprintf("/proc/%d/ns/net", pid)}
	ready := make(chan error)
	ownThread(func() {
		fd, err := unix.Open(n.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		ready <- err
		for f := range n.work {
			f()
		}
	})
	if err := <-ready; err != nil {
		t.Fatalf("network namespace of process %d: %v", pid, err)
	}
	n.leave = sync.OnceFunc(func() { close(n.work) })
	t.Cleanup(n.leave)
	return n
}

// Leave ends the test's own thread in the namespace of a process, which the kernel keeps as long as somebody is in it. Without it the
// end of the test does.
func (n *NetNS) Leave() { n.leave() }
