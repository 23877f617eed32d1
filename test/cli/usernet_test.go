package cli_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/procfs"
	"github.com/containr/containr/internal/testkit/program"
)

// person is an ordinary user of a host on the desk, uid 1000, whose network is the host's, and a neighbour of that host.
type person struct {
	*desk
	dir string
}

// asPerson runs a command as the user, where he may make taps, as on a machine with udev, and where the neighbour is asked for
// names.
const asPerson = `#!/bin/sh
set -e
mount -t tmpfs -o mode=755 tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200
mount --bind "$PERSON/resolv.conf" /etc/resolv.conf
for f in subuid subgid; do
	if [ -e "$PERSON/$f" ]; then mount --bind "$PERSON/$f" /etc/$f; fi
done
export HOME="$PERSON/home" XDG_DATA_HOME="$PERSON/share" XDG_RUNTIME_DIR="$PERSON/run"
cd "$PERSON"
exec setpriv --reuid "${PERSON_ID:-1000}" --regid "${PERSON_ID:-1000}" --clear-groups --inh-caps=-all -- "$@"
`

// newPerson skips a test where the kernel has no taps.
func newPerson(t *testing.T) *person {
	t.Helper()
	d := newDesk(t)
	requireTap(t)
	p := &person{desk: d, dir: t.TempDir()}
	d.user = p
	for dir := p.dir; strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	for _, name := range []string{"home", "share", "run"} {
		must(t, os.Mkdir(filepath.Join(p.dir, name), 0o700))
		must(t, os.Chown(filepath.Join(p.dir, name), 1000, 1000))
	}
	must(t, os.WriteFile(filepath.Join(p.dir, "as"), []byte(asPerson), 0o755))
	must(t, os.WriteFile(filepath.Join(p.dir, "resolv.conf"), []byte("nameserver 192.0.2.2\n"), 0o644))
	d.host.Do(func() {
		must(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0))
	})
	d.environment = append(os.Environ(), program.RootVar+"=", "PERSON="+p.dir)
	t.Cleanup(func() {
		if t.Failed() {
			for _, id := range strings.Fields(p.containr("ps", "-aq")) {
				p.containr("rm", "-f", id)
			}
		}
		if err := p.quiet(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func requireTap(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this kernel makes no taps: %v", err)
	}
	f.Close()
	if _, err := os.Stat("/etc/resolv.conf"); err != nil {
		t.Skipf("nothing to mount a list of name servers on: %v", err)
	}
}

// command runs containr, or another program, as the user.
func (p *person) command(args ...string) (out string, err error) {
	return p.execute(append([]string{"containr"}, args...)...)
}

func (p *person) execute(args ...string) (out string, err error) {
	p.host.Do(func() {
		cmd := p.prepare(args...)
		var b []byte
		b, err = cmd.CombinedOutput()
		out = string(b)
	})
	return out, err
}

func (p *person) prepare(args ...string) *exec.Cmd {
	cmd := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "--", filepath.Join(p.dir, "as")}, args...)...)
	cmd.Env = p.environment
	return cmd
}

// containr is command that has to succeed.
func (p *person) containr(args ...string) string {
	p.t.Helper()
	out, err := p.command(args...)
	if err != nil {
		p.t.Fatalf("containr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSuffix(out, "\n")
}

// inside is the network of a container.
func (p *person) inside(name string) *testkit.NetNS {
	p.t.Helper()
	return testkit.NetNSOf(p.t, p.pid(name))
}

func (p *person) pid(name string) int {
	p.t.Helper()
	pid, err := strconv.Atoi(p.containr("inspect", "-f", "{{.State.Pid}}", name))
	must(p.t, err)
	return pid
}

// carrier is the process that carries a container's packets.
func (p *person) carrier(name string) int {
	p.t.Helper()
	id := p.containr("inspect", "-f", "{{.Id}}", name)
	text, err := os.ReadFile(filepath.Join(p.dir, "run/containr/usernet", id))
	must(p.t, err)
	first, _, _ := strings.Cut(string(text), " ")
	pid, err := strconv.Atoi(first)
	must(p.t, err)
	return pid
}

// quiet checks that nothing of the user's is left: no container, nobody who carries packets.
func (p *person) quiet() error {
	var all error
	for _, name := range []string{"monitor", "resolver"} {
		lock := filepath.Join(p.dir, "run/containr", name+".lock")
		if _, err := os.Stat(lock); err == nil {
			if out, err := exec.Command("flock", "--wait", "30", "--shared", lock, "true").CombinedOutput(); err != nil {
				all = errors.Join(all, fmt.Errorf("the %s does not end: %w: %s", name, err, out))
			}
		}
	}
	// Who holds his networks stays for some seconds.
	if hub := filepath.Join(p.dir, "run/containr/usernet/hub"); exists(hub) {
		if out, err := exec.Command("flock", "--wait", "30", "--shared", hub, "rm", hub).CombinedOutput(); err != nil {
			all = errors.Join(all, fmt.Errorf("who carries the packets of the networks does not end: %w: %s", err, out))
		}
	}
	for _, dir := range []string{"run/containr/usernet", "run/containr/runtime", "share/containr/containers", "share/containr/layers", "share/containr/names"} {
		entries, _ := os.ReadDir(filepath.Join(p.dir, dir)) // most runs make only some
		for _, e := range entries {
			all = errors.Join(all, fmt.Errorf("left: %s/%s", dir, e.Name()))
		}
	}
	return all
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// tellCallers answers every connection and every packet at a port of a namespace with who it is from.
func tellCallers(t *testing.T, n *testkit.NetNS, address string) {
	t.Helper()
	var streams net.Listener
	var packets net.PacketConn
	var err error
	n.Do(func() {
		if streams, err = net.Listen("tcp", address); err == nil {
			packets, err = net.ListenPacket("udp", address)
		}
	})
	must(t, err)
	t.Cleanup(func() { streams.Close(); packets.Close() })
	go func() {
		for {
			c, err := streams.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, hostOf(c.RemoteAddr()))
			c.Close()
		}
	}()
	go func() {
		b := make([]byte, 1<<16)
		for {
			_, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte(hostOf(from)), from) // who asked asks again
		}
	}()
}

func hostOf(a net.Addr) string {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return err.Error()
	}
	return p.Addr().Unmap().WithZone("").String()
}

// ask sends a packet until it is answered, and returns the answer.
func ask(n *testkit.NetNS, address string) (text string, err error) {
	n.Do(func() {
		var c net.Conn
		if c, err = net.Dial("udp", address); err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 1<<16)
		for began := time.Now(); time.Since(began) < networkPatience; {
			_, _ = c.Write([]byte("who am I")) // a refusal of the last one
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			var size int
			if size, err = c.Read(b); err == nil {
				text = string(b[:size])
				return
			}
		}
	})
	return text, err
}

// seenAs checks as whom a server sees somebody, by TCP and by UDP.
func seenAs(t *testing.T, n *testkit.NetNS, address, want string) {
	t.Helper()
	if text, _, err := dial(n, address, networkPatience); err != nil || text != want {
		t.Errorf("TCP to %s: seen as %q, %v; want %q", address, text, err, want)
	}
	if text, err := ask(n, address); err != nil || text != want {
		t.Errorf("UDP to %s: seen as %q, %v; want %q", address, text, err, want)
	}
}

// refusedAt checks that nobody is at an address, and that the caller is told at once.
func refusedAt(t *testing.T, n *testkit.NetNS, address string) {
	t.Helper()
	if text, _, err := dial(n, address, networkPatience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s: %q, %v; want it to be refused", address, text, err)
	}
}

// TestUserNetwork: an ordinary user's container reaches what he reaches, and is reached by its ports, whose users it sees. The
// loopback addresses of the host are closed to it.
func TestUserNetwork(t *testing.T) {
	p := newPerson(t)
	p.host.Run("ip", "address", "add", "10.99.0.1/24", "dev", "lo")
	before := p.host.State()
	p.containr("run", "-d", "--name", "his", "--network", "builtin", "-p", "8080:80", "-p", "8080:80/udp", "base", "sleep", "1000")
	in := p.inside("his")
	tellCallers(t, p.lan, ":7000")
	tellCallers(t, in, ":80")
	tellCallers(t, p.host, "127.0.0.1:7001")
	tellCallers(t, p.host, "[::1]:7001")

	seenAs(t, in, "192.0.2.2:7000", "192.0.2.1")
	seenAs(t, in, "[2001:db8::2]:7000", "2001:db8::1")
	seenAs(t, p.lan, "192.0.2.1:8080", "192.0.2.2")
	seenAs(t, p.lan, "[2001:db8::1]:8080", "2001:db8::2")
	seenAs(t, p.host, "127.0.0.1:8080", "10.0.2.2")
	seenAs(t, p.host, "[::1]:8080", "fd00:c0a7::2")
	seenAs(t, p.host, "192.0.2.1:8080", "192.0.2.1")

	refusedAt(t, in, "192.0.2.2:7009")
	for _, closed := range []string{"10.0.2.2:7001", "[fd00:c0a7::2]:7001", "127.0.0.1:7001", "10.0.2.3:7001"} {
		refusedAt(t, in, closed)
	}
	tellCallers(t, p.host, "10.99.0.7:7001") // the kernel takes all of the network for its own
	refusedAt(t, in, "10.99.0.7:7001")
	p.host.Run("ip", "address", "add", "10.98.0.1/24", "dev", "lo")
	tellCallers(t, p.host, "10.98.0.7:7001")
	p.await(func() bool {
		_, _, err := dial(in, "10.98.0.7:7001", networkPatience)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	p.host.Run("ip", "address", "delete", "10.98.0.1/24", "dev", "lo")
	must(t, ping6(in, "2001:db8::2"))
	for _, to := range []string{"192.0.2.2", "10.0.2.2"} {
		if out := p.containr("exec", "his", "ping", "-c", "1", to); !strings.Contains(out, "1 sent, 1 answered") {
			t.Errorf("ping %s: %q", to, out)
		}
	}
	if out, err := p.command("exec", "his", "ping", "-c", "1", "-W", "1", "192.0.2.77"); err == nil {
		t.Errorf("ping of nobody: %q; want no answer", out)
	}
	p.containr("rm", "-f", "his")
	if now := p.host.State(); now != before {
		t.Errorf("the host has now\n%s\nand had before\n%s", now, before)
	}
}

// ping6 sends an echo request of version 6 and waits for the reply, which has the same content.
func ping6(n *testkit.NetNS, to string) (err error) {
	n.Do(func() {
		var fd int
		if fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6); err != nil {
			return
		}
		defer unix.Close(fd)
		timeout := unix.NsecToTimeval(networkPatience.Nanoseconds())
		request := append([]byte{128, 0, 0, 0, 0, 0, 0, 1}, "what is echoed"...)
		err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
			unix.Sendto(fd, request, 0, &unix.SockaddrInet6{Addr: netip.MustParseAddr(to).As16()}))
		b := make([]byte, 100)
		for err == nil {
			var size int
			if size, err = unix.Read(fd, b); err == nil && b[0] == 129 && string(b[8:size]) == "what is echoed" {
				return
			}
		}
	})
	return err
}

// TestUserNetworkHasLimits: ports of the administrator are refused in words, options that there are not too, and another user
// sees nothing of who carries the packets.
func TestUserNetworkHasLimits(t *testing.T) {
	p := newPerson(t)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"port 80/tcp of the host: ports below 1024 are the administrator's", []string{"-p", "80:80", "--network", "builtin"}},
		{"it carries tcp and udp", []string{"-p", "8080:80/sctp", "--network", "builtin"}},
		{"-p [::1]:8080:80: it leads no ports of IPv6 to containers", []string{"-p", "[::1]:8080:80", "--network", "slirp4netns"}},
		{"unknown option", []string{"--network", "builtin:nonsense"}},
		{"mtu", []string{"--network", "builtin:mtu=10"}},
		{"127.0.0.0/24 is every machine's loopback device", []string{"--network", "builtin:subnet=127.0.0.0/24"}},
		{"255.0.0.0/8 is reserved, or means everybody", []string{"--network", "builtin:subnet=255.0.0.0/8"}},
	} {
		out, err := p.command(append(append([]string{"run", "--rm"}, c.args...), "base", "true")...)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%v: %v, %q; want %q", c.args, err, out, c.want)
		}
	}
	p.containr("run", "-d", "--name", "his", "--network", "builtin", "base", "sleep", "1000")
	carrier := p.carrier("his")
	for _, path := range []string{filepath.Join(p.dir, "run/containr"), filepath.Join(p.dir, "share/containr"), fmt.Sprintf("/proc/%d/fd", carrier)} {
		if out, err := p.execute("ls", path); err != nil {
			t.Errorf("%s: %v, %q: not even the user himself sees it", path, err, out)
		}
		p.environment = append(p.environment, "PERSON_ID=1001")
		if out, err := p.execute("ls", path); err == nil || !strings.Contains(out, "ermission denied") {
			t.Errorf("%s: another user sees %q, %v", path, out, err)
		}
		p.environment = p.environment[:len(p.environment)-1]
	}
	p.containr("rm", "-f", "his")
}

// TestUserNetworkOpensTheHost: the host's loopback addresses are at the gateway's, if that is asked for.
func TestUserNetworkOpensTheHost(t *testing.T) {
	p := newPerson(t)
	tellCallers(t, p.host, "127.0.0.1:7001")
	p.containr("run", "-d", "--name", "open", "--network", "builtin:host-loopback,subnet=10.77.0.0/24,mtu=9000", "--add-host", "me:host-gateway", "base", "sleep", "1000")
	seenAs(t, p.inside("open"), "10.77.0.2:7001", "127.0.0.1")
	if out := p.containr("exec", "open", "sh", "-c", "grep me /etc/hosts; cat /sys/class/net/eth0/mtu"); out != "10.77.0.2\tme\n9000" {
		t.Errorf("hosts and mtu: %q", out)
	}
	p.containr("rm", "-f", "open")
}

// TestUserNetworkNames: the host's name servers answer, by UDP and by TCP.
func TestUserNetworkNames(t *testing.T) {
	p := newPerson(t)
	answerNames(t, p.lan)
	p.containr("run", "-d", "--name", "asks", "--network", "builtin", "base", "sleep", "1000")
	if out := p.containr("exec", "asks", "nslookup", "somewhere.example"); !strings.Contains(out, "192.0.2.55") {
		t.Errorf("nslookup: %q", out)
	}
	in := p.inside("asks")
	in.Do(func() {
		c, err := net.DialTimeout("tcp", "10.0.2.3:53", networkPatience)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		q := question("somewhere.example.")
		_, err = c.Write(append([]byte{byte(len(q) >> 8), byte(len(q))}, q...))
		b := make([]byte, 512)
		if err == nil {
			_, err = io.ReadAtLeast(c, b, 20)
		}
		if err != nil {
			t.Error(err)
		}
	})
	p.containr("rm", "-f", "asks")
}

func question(name string) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// answerNames is a name server that knows one address for everything.
func answerNames(t *testing.T, n *testkit.NetNS) {
	t.Helper()
	var packets net.PacketConn
	var streams net.Listener
	var err error
	n.Do(func() {
		if packets, err = net.ListenPacket("udp", "192.0.2.2:53"); err == nil {
			streams, err = net.Listen("tcp", "192.0.2.2:53")
		}
	})
	must(t, err)
	t.Cleanup(func() { packets.Close(); streams.Close() })
	reply := func(q []byte) []byte {
		var m dnsmessage.Message
		if m.Unpack(q) != nil || len(m.Questions) != 1 {
			return nil
		}
		m.Response, m.Additionals = true, nil
		if m.Questions[0].Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
				Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 55}}}}
		}
		b, _ := m.Pack() // what was unpacked can be packed
		return b
	}
	go func() {
		b := make([]byte, 1<<16)
		for {
			size, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(reply(b[:size]), from)
		}
	}()
	go func() {
		for {
			c, err := streams.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 2+512)
			if size, err := io.ReadAtLeast(c, b, 20); err == nil {
				r := reply(b[2:size])
				_, _ = c.Write(append([]byte{byte(len(r) >> 8), byte(len(r))}, r...))
			}
			c.Close()
		}
	}()
}

// TestUserNetworkLosesNothing: streams beside each other, in and out, bring every byte, and say their end while the other
// direction goes on.
func TestUserNetworkLosesNothing(t *testing.T) {
	p := newPerson(t)
	p.containr("run", "-d", "--name", "busy", "--network", "builtin", "-p", "8081:81", "base", "sleep", "1000")
	in := p.inside("busy")
	countBytes(t, p.lan, ":7002")
	countBytes(t, in, ":81")
	var all sync.WaitGroup
	for i := range 6 {
		for _, way := range []struct {
			from *testkit.NetNS
			to   string
		}{{in, "192.0.2.2:7002"}, {in, "[2001:db8::2]:7002"}, {p.lan, "192.0.2.1:8081"}} {
			var c net.Conn
			var err error
			way.from.Do(func() { c, err = net.DialTimeout("tcp", way.to, networkPatience) })
			must(t, err)
			all.Go(func() {
				defer c.Close()
				if err := roundTrip(c.(*net.TCPConn), uint64(i)); err != nil {
					t.Errorf("%s: %v", way.to, err)
				}
			})
		}
	}
	all.Wait()
	p.containr("rm", "-f", "busy")
}

// streamed is how many bytes go each way.
const streamed = 5<<20 + 12345

// countBytes is a server that reads to the end, and then sends the sum of what it has read and as many bytes more.
func countBytes(t *testing.T, n *testkit.NetNS, address string) {
	t.Helper()
	var l net.Listener
	var err error
	n.Do(func() { l, err = net.Listen("tcp", address) })
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				sum := sha256.New()
				if _, err := io.Copy(sum, c); err != nil {
					return
				}
				if _, err := c.Write(sum.Sum(nil)); err == nil {
					_, _ = io.Copy(c, io.LimitReader(noise(99), streamed)) // the other side says what is missing
				}
			}()
		}
	}()
}

func noise(seed uint64) io.Reader {
	var key [32]byte
	key[0] = byte(seed)
	return rand.NewChaCha8(key)
}

// roundTrip sends bytes, says that there are no more, and then reads what a server of countBytes has to say.
func roundTrip(c *net.TCPConn, seed uint64) error {
	if err := c.SetDeadline(time.Now().Add(4 * networkPatience)); err != nil {
		return err
	}
	sent, wanted := sha256.New(), sha256.New()
	if _, err := io.Copy(io.MultiWriter(c, sent), io.LimitReader(noise(seed), streamed)); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	theirs := make([]byte, sha256.Size)
	if _, err := io.ReadFull(c, theirs); err != nil {
		return err
	}
	if string(theirs) != string(sent.Sum(nil)) {
		return errors.New("what arrived is not what was sent")
	}
	_, _ = io.Copy(wanted, io.LimitReader(noise(99), streamed))
	got := sha256.New()
	if size, err := io.Copy(got, c); err != nil || size != streamed || string(got.Sum(nil)) != string(wanted.Sum(nil)) {
		return fmt.Errorf("%d bytes came back, %v; want %d", size, err, streamed)
	}
	return nil
}

// TestUserNetworkEndsWithItsContainer: whoever of those involved is killed, nothing is left, and the ports are free.
func TestUserNetworkEndsWithItsContainer(t *testing.T) {
	for _, victim := range []string{"carrier", "container", "keeper", "command"} {
		t.Run(victim, func(t *testing.T) {
			p := newPerson(t)
			var cmd *exec.Cmd
			if victim == "command" {
				p.host.Do(func() {
					cmd = p.prepare("containr", "run", "--name", "it", "--network", "builtin", "-p", "8082:82", "base", "sleep", "1000")
					must(t, cmd.Start())
				})
				p.await(func() bool {
					out, err := p.command("inspect", "-f", "{{.State.Running}}", "it")
					return err == nil && strings.TrimSpace(out) == "true"
				})
			} else {
				p.containr("run", "-d", "--name", "it", "--network", "builtin", "-p", "8082:82", "base", "sleep", "1000")
			}
			carrier, first := p.carrier("it"), p.pid("it")
			switch victim {
			case "carrier":
				must(t, unix.Kill(carrier, unix.SIGKILL))
				p.await(func() bool { return !lives(carrier) })
				// Its device goes with the last of its threads.
				p.await(func() bool { return p.containr("exec", "it", "ls", "/sys/class/net") == "lo" })
			case "container":
				must(t, unix.Kill(first, unix.SIGKILL))
			case "keeper":
				must(t, unix.Kill(parentOf(t, first), unix.SIGKILL))
			case "command":
				must(t, cmd.Process.Kill())
				_ = cmd.Wait() // it was killed
			}
			p.containr("rm", "-f", "it")
			if lives(carrier) {
				t.Errorf("who carried its packets is still there")
			}
			refusedAt(t, p.lan, "192.0.2.1:8082")
		})
	}
}

// await waits until something is so.
func (p *person) await(so func() bool) {
	p.t.Helper()
	for began := time.Now(); !so(); {
		if time.Since(began) > networkPatience {
			p.t.Fatal("it does not come to be")
		}
	}
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	parent, err := strconv.Atoi(f[1])
	must(t, err)
	return parent
}

// lives reports whether a process is there and has not ended; process 1 may take its time to bury those that nobody else waits for.
func lives(pid int) bool {
	st, err := procfs.ReadStat(pid)
	return err == nil && st.State != "Z"
}
