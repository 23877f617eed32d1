package cli_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// TestNetworksOfOthers: pasta and slirp4netns carry a container's packets too, lead ports to it, and end with it, also if
// who stands above them was killed.
func TestNetworksOfOthers(t *testing.T) {
	for _, backend := range []string{"pasta", "slirp4netns"} {
		t.Run(backend, func(t *testing.T) {
			if _, err := exec.LookPath(backend); err != nil {
				t.Skipf("not installed: %v", err)
			}
			p := newPerson(t)
			p.giveIDs("100000:65536")
			answerNames(t, p.lan)
			tellCallers(t, p.lan, "192.0.2.2:7000")
			tellCallers(t, p.host, "127.0.0.1:7001")
			p.host.Run("ip", "route", "add", "default", "via", "192.0.2.254") // pasta takes the addresses of the device that this is by
			for _, kill := range []bool{false, true} {
				p.containr("run", "-d", "--name", "his", "--network", backend, "-p", "8080:80", "base", "sleep", "1000")
				in := p.inside("his")
				tellCallers(t, in, ":80")
				seenAs(t, in, "192.0.2.2:7000", "192.0.2.1")
				if out := p.containr("exec", "his", "nslookup", "somewhere.example"); !strings.Contains(out, "192.0.2.55") {
					t.Errorf("nslookup: %q", out)
				}
				for _, closed := range []string{"10.0.2.2:7001", "192.0.2.2:7001"} {
					var c net.Conn
					var err error
					in.Do(func() { c, err = net.DialTimeout("tcp", closed, unreachable) })
					if err == nil {
						c.Close()
						t.Errorf("%s: connected with the host", closed)
					}
				}
				above := p.carrier("his")
				if backend == "slirp4netns" { // the pasta of March 2023, which Debian 12 has, loses what the container says
					if _, _, err := dial(p.lan, "192.0.2.1:8080", networkPatience); err != nil {
						t.Errorf("published port: %v", err)
					}
				}
				if kill {
					if err := unix.Kill(above, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
						t.Error(err)
					}
				}
				p.containr("rm", "-f", "his")
				if lives(above) {
					t.Errorf("who stood above it is there")
				}
			}
		})
	}
}

// TestNetworksOfOthersThatAreNotThere: who asks for a program that is not installed is told the package.
func TestNetworksOfOthersThatAreNotThere(t *testing.T) {
	p := newPerson(t)
	containr, err := exec.LookPath("containr")
	must(t, err)
	for backend, pkg := range map[string]string{"pasta": "passt", "slirp4netns": "slirp4netns"} {
		out, err := p.execute("env", "PATH="+filepath.Dir(containr), containr, "run", "--rm", "--network", backend, "base", "true")
		if err == nil || !strings.Contains(out, "--network "+backend+": the program is not installed: it is in the package "+pkg) {
			t.Errorf("%s: %v, %q", backend, err, out)
		}
	}
}

// giveIDs has the machine's administrator grant the user ids, FIRST:COUNT.
func (p *person) giveIDs(ids string) {
	p.t.Helper()
	for _, name := range []string{"subuid", "subgid"} {
		if _, err := os.Stat("/etc/" + name); err != nil {
			p.t.Skipf("nothing to mount ids on: %v", err)
		}
		must(p.t, os.WriteFile(filepath.Join(p.dir, name), []byte("1000:"+ids+"\n"), 0o644))
	}
	if _, err := exec.LookPath("newuidmap"); err != nil {
		p.t.Skipf("newuidmap, of the package uidmap, is missing: %v", err)
	}
}

// TestPortsOfUserNetworks: what -p asks of each program that carries packets, of root's and of an ordinary user's, is where it says
// and nowhere else: one address of the host, ports in a row, UDP.
func TestPortsOfUserNetworks(t *testing.T) {
	for _, backend := range []string{"builtin", "pasta", "slirp4netns"} {
		for _, who := range []string{"root", "user"} {
			t.Run(backend+"/"+who, func(t *testing.T) {
				if backend != "builtin" {
					if _, err := exec.LookPath(backend); err != nil {
						t.Skipf("not installed: %v", err)
					}
				}
				p := newPerson(t)
				p.host.Run("ip", "route", "add", "default", "via", "192.0.2.254") // pasta takes the addresses of the device that this is by
				run, inside := p.containr, p.inside
				if who == "root" {
					d := *p.desk
					d.environment = append(os.Environ(), "CONTAINR_ROOT="+d.root)
					run, inside = d.containr, d.inside
				} else {
					p.giveIDs("100000:65536")
				}
				before := p.host.State()
				run("run", "-d", "--name", "his", "--network", backend, "-p", "8080:80", "-p", "127.0.0.1:8081:81", "-p", "192.0.2.1:9000-9001:90-91/udp", "base", "sleep", "1000")
				in := inside("his")
				for _, port := range []int{80, 81, 90, 91} {
					p.echoing(in, port)
				}
				for _, way := range []struct {
					from             *testkit.NetNS
					network, address string
				}{
					{p.lan, "tcp", "192.0.2.1:8080"}, {p.lan, "udp", "192.0.2.1:9000"}, {p.lan, "udp", "192.0.2.1:9001"}, {p.host, "tcp", "127.0.0.1:8081"},
				} {
					if err := cameBack(way.from, way.network, way.address); err != nil {
						t.Error(err)
					}
				}
				refusedAt(t, p.lan, "192.0.2.1:8081") // for the host alone
				refusedAt(t, p.lan, "192.0.2.1:81")
				run("rm", "-f", "his")
				refusedAt(t, p.lan, "192.0.2.1:8080")
				if now := p.host.State(); now != before {
					t.Errorf("the host has now\n%s\nand had before\n%s", now, before)
				}
			})
		}
	}
}

// cameBack says something at an address until it comes back.
func cameBack(n *testkit.NetNS, network, address string) (err error) {
	n.Do(func() {
		var c net.Conn
		if c, err = net.DialTimeout(network, address, networkPatience); err != nil {
			return
		}
		defer c.Close()
		const word = "is anybody there?"
		b := make([]byte, len(word))
		for began := time.Now(); time.Since(began) < networkPatience; {
			if _, err = c.Write([]byte(word)); err != nil && network == "tcp" {
				return
			}
			_ = c.SetReadDeadline(time.Now().Add(map[string]time.Duration{"tcp": networkPatience, "udp": time.Second}[network])) // of a socket that is open
			if _, err = io.ReadFull(c, b); err == nil {
				if string(b) != word {
					err = fmt.Errorf("%s %s: came back as %q", network, address, b)
				}
				return
			}
			if network == "tcp" {
				break
			}
		}
		err = fmt.Errorf("%s %s: %w", network, address, err)
	})
	return err
}
