package cli_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// nameServer has a program of the host, at an address, answer every question for an address of version 4 with that one.
func (d *desk) nameServer(address string, answer [4]byte) {
	d.t.Helper()
	var c net.PacketConn
	var err error
	d.host.Do(func() { c, err = net.ListenPacket("udp", address) })
	must(d.t, err)
	d.t.Cleanup(func() { c.Close() })
	go func() {
		for b := make([]byte, 1500); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil {
				continue
			}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: answer}}}
			}
			if packed, err := m.Pack(); err == nil {
				c.WriteTo(packed, from)
			}
		}
	}()
}

// hostAsks has the host ask for names as text says, in this test's world alone.
func (d *desk) hostAsks(text string) {
	d.t.Helper()
	path := filepath.Join(d.t.TempDir(), "resolv.conf")
	must(d.t, os.WriteFile(path, []byte(text), 0o644))
	must(d.t, unix.Mount(path, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	d.t.Cleanup(func() { must(d.t, unix.Unmount("/etc/resolv.conf", 0)) })
}

// A host that asks itself, at 127.0.0.53 as systemd-resolved has it, is asked by the containers of networks without names, too. They find
// none of each other, and follow the host when it asks somebody else.
func TestNameServersOfTheHost(t *testing.T) {
	if !testkit.InWorld() {
		t.Skip("needs a mount namespace of the tests' own, for another /etc/resolv.conf")
	}
	d := newDesk(t)
	d.nameServer("127.0.0.53:53", [4]byte{203, 0, 113, 7})
	before := d.host.State()
	d.hostAsks("nameserver 127.0.0.53\nsearch lan.example\noptions edns0\n")
	d.containr("network", "create", "--disable-dns", "--subnet", "10.1.0.0/24", "mute")
	for name, network := range map[string]string{"web": "bridge", "box": "mute"} {
		d.containr("run", "-d", "--name", name, "--network", network, "base", "sleep", "1000")
		text := d.containr("exec", name, "cat", "/etc/resolv.conf")
		if !strings.HasPrefix(text, "nameserver 10.") || !strings.HasSuffix(text, ".1\nsearch lan.example\noptions edns0") {
			t.Errorf("network %s: the container's resolv.conf is %q", network, text)
		}
		if out, err := d.command("exec", name, "nslookup", "-type=a", "printer.lan.example"); err != nil || !strings.Contains(out, "203.0.113.7") {
			t.Errorf("network %s: a name that the host's own server knows: %v\n%s", network, err, out)
		}
		if out, _ := d.command("run", "--rm", "--network", network, "base", "nslookup", "-type=a", name); !strings.Contains(out, "203.0.113.7") {
			t.Errorf("network %s: the name of a neighbour is answered here:\n%s", network, out)
		}
	}
	d.containr("exec", "box", "sh", "-c", "echo '# mine' >> /etc/resolv.conf")
	mine := d.containr("exec", "box", "cat", "/etc/resolv.conf")
	if out := d.containr("run", "--rm", "--network", "bridge", "--dns", "192.0.2.2", "base", "cat", "/etc/resolv.conf"); !strings.HasPrefix(out, "nameserver 192.0.2.2\n") {
		t.Errorf("with --dns resolv.conf is %q", out)
	}
	d.hostAsks("nameserver 192.0.2.2\nsearch lan.example\n")
	for _, name := range []string{"web", "box"} {
		d.containr("restart", "-t", "0", name)
	}
	if out, err := d.command("exec", "web", "cat", "/etc/resolv.conf"); err != nil || !strings.HasPrefix(out, "nameserver 10.") {
		t.Errorf("who is asked by the host's side still is: %v, %q", err, out)
	}
	if now := d.containr("exec", "box", "cat", "/etc/resolv.conf"); now != mine {
		t.Errorf("what the container wrote is gone: %q", now)
	}
	d.containr("run", "-d", "--name", "new", "--network", "bridge", "base", "sleep", "1000")
	d.hostAsks("nameserver 192.0.2.3\nnameserver 192.0.2.4\n")
	d.containr("restart", "-t", "0", "new")
	if out := d.containr("exec", "new", "cat", "/etc/resolv.conf"); out != "nameserver 192.0.2.3\nnameserver 192.0.2.4" {
		t.Errorf("the host asks others, and the container's resolv.conf is %q", out)
	}
	d.hostAsks("nameserver 127.0.0.53\n")
	d.containr("restart", "-t", "0", "new")
	if out, err := d.command("exec", "new", "nslookup", "-type=a", "printer"); err != nil || !strings.Contains(out, "203.0.113.7") {
		t.Errorf("the host asks itself now: %v\n%s", err, out)
	}
	d.containr("rm", "-f", "web", "box", "new")
	d.containr("network", "rm", "mute", "bridge")
	d.finish(before)
}
