package cli_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// nslookup asks from within a container and returns the addresses, or the error's word.
func (d *desk) nslookup(container string, args ...string) string {
	d.t.Helper()
	out, _ := d.command(append([]string{"exec", container, "nslookup"}, args...)...)
	var found []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if a, ok := strings.CutPrefix(line, "Address: "); ok {
			found = append(found, a)
		}
		if _, name, ok := strings.Cut(line, "name = "); ok {
			found = append(found, name)
		}
		if strings.HasPrefix(line, "nslookup: ") || strings.HasPrefix(line, "***") {
			found = append(found, line[strings.LastIndexByte(line, ' ')+1:])
		}
	}
	return strings.Join(found, " ")
}

// Containers of a network find each other by every name that they have, over UDP and TCP, for as long as they run; their
// neighbours in other networks do not. What is no container's name is asked of the server that --dns names.
func TestContainersFindEachOther(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.7.0.0/24", "--subnet", "fd00:7::/64", "lab")
	d.containr("network", "create", "--subnet", "10.8.0.0/24", "--internal", "inside")
	d.containr("network", "create", "--subnet", "10.9.0.0/24", "--disable-dns", "mute")
	sleeper := func(name string, flags ...string) string {
		return d.containr(append(append([]string{"run", "-d", "--name", name}, flags...), "base", "sleep", "1000")...)
	}
	id := sleeper("web", "--network", "lab", "--network-alias", "www", "--ip", "10.7.0.20", "--ip6", "fd00:7::20")
	sleeper("db", "--network", "name=lab,ip=10.7.0.30,alias=sql,alias=store")
	sleeper("deep", "--network", "inside:ip=10.8.0.9")
	sleeper("dumb", "--network", "mute")
	d.serveNames("192.0.2.53")
	sleeper("own", "--network", "lab", "--dns", "192.0.2.53")

	for _, tc := range []struct{ from, name, want string }{
		{"db", "web", "10.7.0.20 fd00:7::20"}, {"db", "WWW", "10.7.0.20 fd00:7::20"}, {"db", id[:12], "10.7.0.20 fd00:7::20"},
		{"db", "web.lab", "10.7.0.20 fd00:7::20"}, {"web", "sql", "10.7.0.30"}, {"web", "store", "10.7.0.30"},
		{"db", "10.7.0.20", "web.lab."}, {"db", "fd00:7::20", "web.lab."}, {"db", "10.7.0.99", "NXDOMAIN"},
		{"deep", "web", "NXDOMAIN"}, {"deep", "example.com", "NXDOMAIN"}, {"deep", "deep", "10.8.0.9"},
		{"own", "example.com", "192.0.2.99"}, {"own", "web", "10.7.0.20 fd00:7::20"},
	} {
		for _, flag := range []string{"--tcp=false", "--tcp"} {
			got := d.nslookup(tc.from, flag, tc.name)
			if v4, _, _ := strings.Cut(got, " "); !strings.Contains(tc.want, ":") && !strings.HasSuffix(tc.want, ".") {
				got = v4 // an address of version 6 was chosen by chance
			}
			if got != tc.want {
				t.Errorf("%s asks %s for %s: %q, want %q", tc.from, flag, tc.name, got, tc.want)
			}
		}
	}
	if got := d.containr("exec", "dumb", "cat", "/etc/resolv.conf"); strings.Contains(got, "10.9.0.1") {
		t.Errorf("in a network without names resolv.conf is %q", got)
	}
	d.refused("nobody answers for names", "run", "--rm", "--network", "mute:alias=x", "base", "true")
	d.refused("nobody answers for names", "network", "connect", "--alias", "x", "mute", "web")

	d.containr("network", "connect", "--ip", "10.8.0.20", "--alias", "guest", "inside", "web")
	if got := d.nslookup("deep", "-type=a", "guest"); got != "10.8.0.20" {
		t.Errorf("the alias of a container that came later: %s", got)
	}
	if got := d.nslookup("web", "-type=a", "deep"); got != "10.8.0.9" {
		t.Errorf("it does not find its new neighbour: %s", got)
	}
	d.containr("network", "disconnect", "inside", "web")
	if got := d.nslookup("deep", "-type=a", "guest"); got != "NXDOMAIN" {
		t.Errorf("a container that has left is found: %s", got)
	}
	d.containr("rename", "web", "new")
	if got := d.nslookup("own", "-type=a", "new") + " " + d.nslookup("own", "-type=a", "web"); got != "10.7.0.20 192.0.2.99" {
		t.Errorf("after rename: %s", got)
	}
	d.containr("stop", "-t", "0", "new")
	if got := d.nslookup("own", "-type=a", "www"); got != "192.0.2.99" {
		t.Errorf("a container that was stopped is found: %s", got)
	}
	d.containr("start", "new")
	if got := d.nslookup("own", "-type=a", "www"); got != "10.7.0.20" {
		t.Errorf("started again it is not found: %s", got)
	}
	d.containr("rm", "-f", "new", "db", "deep", "dumb", "own")
	d.containr("network", "rm", "lab", "inside", "mute")
	d.finish(before)
}

// serveNames has the neighbour answer each question for a name at an address with 192.0.2.99.
func (d *desk) serveNames(at string) {
	d.lan.Run("ip", "address", "add", at+"/24", "dev", "eth0")
	var packets net.PacketConn
	var listener net.Listener
	var err, listenErr error
	d.lan.Do(func() {
		packets, err = net.ListenPacket("udp", at+":53")
		listener, listenErr = net.Listen("tcp", at+":53")
	})
	if err != nil || listenErr != nil {
		d.t.Fatal(err, listenErr)
	}
	d.t.Cleanup(func() { packets.Close(); listener.Close() })
	answer := func(question []byte) []byte {
		var m dnsmessage.Message
		if m.Unpack(question) != nil || len(m.Questions) != 1 {
			return nil
		}
		m.Response = true
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 99}}}}
		}
		b, _ := m.Pack()
		return b
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			packets.WriteTo(answer(buf[:n]), from)
		}
	}()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			if n, err := c.Read(buf); err == nil && n > 2 { // a question this short comes in one piece
				b := answer(buf[2:n])
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
			}
			c.Close()
		}
	}()
}

// holder is the process that holds a lock of a state root.
func (d *desk) holder(lock string) int {
	d.t.Helper()
	f, err := os.Stat(filepath.Join(d.root, "run", lock))
	if err != nil {
		d.t.Fatal(err)
	}
	inode := f.Sys().(*syscall.Stat_t).Ino
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 5 && f[1] == "FLOCK" && strings.HasSuffix(f[5], ":"+strconv.FormatUint(inode, 10)) {
			pid, _ := strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}

// Names are answered while the monitor is dead, and nobody misses the resolver for longer than until the next command.
func TestNamesOutliveTheirServers(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.7.0.0/24", "lab")
	d.containr("run", "-d", "--name", "web", "--network", "lab", "--ip", "10.7.0.20", "base", "sleep", "1000")
	d.containr("run", "-d", "--name", "db", "--network", "lab", "base", "sleep", "1000")
	monitor, names := d.holder("monitor.lock"), d.holder("resolver.lock")
	if monitor == 0 || names == 0 || monitor == names {
		t.Fatalf("monitor %d, resolver %d", monitor, names)
	}
	kill := func(pid int) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		awaitEnd(t, pid)
	}
	kill(monitor)
	resolve := func() ([]netip.Addr, error) { return d.lookup("10.7.0.1", "web.") }
	if got, err := resolve(); err != nil || len(got) != 1 || got[0].String() != "10.7.0.20" {
		t.Errorf("with a dead monitor: %v, %v", got, err)
	}
	kill(names)
	if got, err := resolve(); err == nil {
		t.Errorf("with a dead resolver: %v", got)
	}
	d.containr("ps")
	if got, err := resolve(); err != nil || len(got) != 1 {
		t.Errorf("after the next command: %v, %v", got, err)
	}
	d.containr("kill", "web")
	d.awaitUnknown("web.")
	d.containr("rm", "-f", "web", "db")
	d.containr("network", "rm", "lab")
	d.finish(before)
}

// noServer is the answer to what is no container's name, on a host that has no name server that it could reach.
const noServer = "RCodeServerFailure"

// lookup asks a name server from the host for an address of version 4.
func (d *desk) lookup(server, name string) (found []netip.Addr, err error) {
	var c net.Conn
	d.host.Do(func() { c, err = net.Dial("udp", server+":53") })
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(networkPatience))
	question := questionFor(name, 1)
	if _, err := c.Write(question); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		return nil, err
	}
	var m dnsmessage.Message
	if err := m.Unpack(buf[:n]); err != nil {
		return nil, err
	}
	if m.RCode != dnsmessage.RCodeSuccess {
		return nil, errors.New(m.RCode.String())
	}
	for _, r := range m.Answers {
		if a, ok := r.Body.(*dnsmessage.AResource); ok {
			found = append(found, netip.AddrFrom4(a.A))
		}
	}
	return found, nil
}

func questionFor(name string, id uint16) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// Ten thousand questions of a container, a hundred at a time, have ten thousand answers.
func TestNoQuestionIsLost(t *testing.T) {
	const count, window = 10000, 100
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.7.0.0/24", "lab")
	d.containr("run", "-d", "--name", "web", "--network", "lab", "--ip", "10.7.0.20", "base", "sleep", "1000")
	pid := d.containr("inspect", "--format", "{{.State.Pid}}", "web")
	var c net.Conn
	inNetworkOf(t, pid, func() {
		var err error
		if c, err = net.Dial("udp", "10.7.0.1:53"); err != nil {
			t.Error(err)
		}
	})
	if c == nil {
		t.FailNow()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(networkPatience))
	began := time.Now()
	seen := make([]bool, count)
	buf := make([]byte, 4096)
	var slowest time.Duration
	sent := make([]time.Time, count)
	for asked, answered := 0, 0; answered < count; {
		for ; asked < count && asked-answered < window; asked++ {
			sent[asked] = time.Now()
			if _, err := c.Write(questionFor("web.", uint16(asked))); err != nil {
				t.Fatal(err)
			}
		}
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%d of %d were answered: %v", answered, asked, err)
		}
		id := binary.BigEndian.Uint16(buf[:n])
		if seen[id] || buf[3]&0xf != 0 || binary.BigEndian.Uint16(buf[6:]) != 1 {
			t.Fatalf("answer to %d (seen: %v): % x", id, seen[id], buf[:n])
		}
		slowest = max(slowest, time.Since(sent[id]))
		seen[id] = true
		answered++
	}
	took := time.Since(began)
	t.Logf("%d answers in %v: %.0f a second; with %d at a time the slowest took %v", count, took, count/took.Seconds(), window, slowest)
	c.Close()
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "lab")
	// The last in the container's namespace was the test's socket: the kernel frees the namespace, and the cable to it, some time after that.
	waitUntil(t, "the cable ends with the namespace", func() bool { return d.host.State() == before })
	d.finish(before)
}

// What is in the way of the resolver is said before a container starts that would not find its neighbours.
func TestAnotherNameServerIsInTheWay(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.7.0.0/24", "lab")
	var c net.PacketConn
	var err error
	d.host.Do(func() { c, err = net.ListenPacket("udp", ":53") })
	if err != nil {
		t.Fatal(err)
	}
	d.refused("10.7.0.1:53", "run", "--rm", "--network", "lab", "base", "true")
	d.refused("--disable-dns", "run", "--rm", "--network", "lab", "base", "true")
	c.Close()
	if got := d.containr("run", "--rm", "--name", "me", "--network", "lab", "--ip", "10.7.0.9", "base", "nslookup", "-type=a", "me"); !strings.Contains(got, "10.7.0.9") {
		t.Errorf("when it is gone: %s", got)
	}
	d.containr("network", "rm", "lab")
	d.finish(before)
}

// A container that is gone at once, by kill -9 of all that looks after it, is not found any more.
func TestNamesOfTheDead(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.7.0.0/24", "lab")
	d.containr("run", "-d", "--name", "web", "--network", "lab", "--ip", "10.7.0.20", "base", "sleep", "1000")
	d.containr("run", "-d", "--name", "db", "--network", "lab", "base", "sleep", "1000")
	pid, err := strconv.Atoi(d.containr("inspect", "--format", "{{.State.Pid}}", "web"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(d.holder("monitor.lock"), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, pid)
	d.awaitUnknown("web.")
	d.containr("rm", "-f", "web", "db")
	d.containr("network", "rm", "lab")
	d.finish(before)
}

// awaitUnknown waits until nobody has a name: that a container has ended is told to the resolver by the kernel, at once, but
// another process has to hear it.
func (d *desk) awaitUnknown(name string) {
	d.t.Helper()
	for began := time.Now(); ; {
		got, err := d.lookup("10.7.0.1", name)
		if err != nil && err.Error() == noServer {
			return
		}
		if time.Since(began) > networkPatience {
			d.t.Fatalf("%s is still found: %v, %v", name, got, err)
		}
	}
}

// inNetworkOf runs a function on a thread that is in the network of a process.
func inNetworkOf(t *testing.T, pid string, do func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and for ever: the thread ends with the goroutine, and nobody else gets it
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer own.Close()
		ns, err := os.Open("/proc/" + pid + "/ns/net")
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			do()
			err = unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) // the first thread of a process is kept by Go, and would keep the namespace
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
