package cli_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/docker/go-units"

	"github.com/containr/containr/internal/testkit/program"
)

// What goes through each network of a container is counted, whoever makes the networks, and is what its devices have counted.
func TestTrafficOfNetworks(t *testing.T) {
	for _, backend := range []string{"builtin", "cni", "netavark"} {
		t.Run(backend, func(t *testing.T) {
			d := backendDesk(t, backend, map[string][]string{"netavark": {debianNetavark}}[backend]...)
			front, back := "front", "back"
			if backend == "cni" {
				front, back = "cni:lab", "cni:back"
				d.write("10-lab.conflist", strings.ReplaceAll(ownLab, "10.77.0.", "10.71.0."))
				d.write("20-back.conflist", `{"cniVersion": "1.0.0", "name": "back", "plugins": [{"type": "bridge", "bridge": "cni-back", "isGateway": true,
				  "ipam": {"type": "host-local", "dataDir": "LEASES", "ranges": [[{"subnet": "10.72.0.0/24"}]]}}]}`)
			} else {
				d.containr("network", "create", "--subnet", "10.71.0.0/24", "--ipv6=false", "front")
				d.containr("network", "create", "--subnet", "10.72.0.0/24", "--ipv6=false", "back")
			}
			d.containr("run", "-d", "--name", "web", "--network", front, "--network", back, "base", "sh", "-c", "head -c 400000 /dev/zero | nc -l -p 80 >/dev/null; sleep 1000")
			d.exchange("10.71.0.2:80", 400_000)
			// The kernel may send something by itself at any time, so a count is between what it was before and is after.
			before, counted, after := d.deviceCounts("web"), d.trafficOf("web", front, back), d.deviceCounts("web")
			for i, network := range []string{front, back} {
				for j := range counted[i] {
					if counted[i][j] < before[i][j] || counted[i][j] > after[i][j] {
						t.Errorf("%s: counted are %d; the device had %d before and has %d", network, counted[i], before[i], after[i])
					}
					if much := counted[i][j] > 300_000; much != (i == 0) {
						t.Errorf("%s: received and sent are %d", network, counted[i])
					}
				}
			}
			// In stats and in the list they are rounded to three digits.
			near := func(text string, want [2]uint64) bool {
				received, sent, _ := strings.Cut(text, " / ")
				for i, one := range []string{received, sent} {
					n, err := units.FromHumanSize(one)
					if err != nil || float64(n) < 0.99*float64(want[i]) || float64(n) > 1.01*float64(want[i])+5000 {
						return false
					}
				}
				return true
			}
			all, list, ok := strings.Cut(d.containr("stats", "--no-stream", "--format", "{{.NetIO}}|{{.Networks}}", "web"), "|")
			of := strings.Split(list, ", ")
			if !ok || !near(all, [2]uint64{counted[0][0] + counted[1][0], counted[0][1] + counted[1][1]}) || len(of) != 2 ||
				!near(strings.TrimPrefix(of[0], front+" "), counted[0]) || !near(strings.TrimPrefix(of[1], back+" "), counted[1]) {
				t.Errorf("stats: %q, %q; counted are %d", all, list, counted)
			}
			rows := map[string]string{}
			for line := range strings.Lines(d.containr("network", "ls", "--traffic", "--format", "{{.Name}}|{{.Containers}}|{{.NetIO}}")) {
				name, rest, _ := strings.Cut(strings.TrimSpace(line), "|")
				rows[name] = rest
			}
			for i, network := range []string{front, back} {
				if n, io, _ := strings.Cut(rows[network], "|"); n != "1" || !near(io, counted[i]) {
					t.Errorf("network ls: %s has %q; counted are %d", network, rows[network], counted[i])
				}
			}
			d.containr("stop", "-t", "0", "web")
			if got := d.containr("network", "ls", "--traffic", "--format", "{{.Name}}|{{.Containers}}|{{.NetIO}}"); !strings.Contains(got, front+"|0|0B / 0B") {
				t.Errorf("network ls, when it has ended: %s", got)
			}
			d.containr("rm", "-f", "web")
			if err := program.AwaitMonitor(d.root); err != nil {
				t.Error(err)
			}
		})
	}
}

// exchange sends bytes to who listens, and receives as many.
func (d *desk) exchange(address string, n int64) {
	d.t.Helper()
	var c net.Conn
	waitUntil(d.t, address+" is reached", func() (ok bool) {
		d.host.Do(func() {
			var err error
			c, err = net.Dial("tcp", address)
			ok = err == nil
		})
		return ok
	})
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, n))
		sent <- err
	}()
	got, err := io.CopyN(io.Discard, c, n)
	if err := errors.Join(err, <-sent); err != nil {
		d.t.Fatalf("%s: %d bytes received: %v", address, got, err)
	}
}

// deviceCounts is what the container's devices eth0 and eth1 say that they received and sent, in bytes.
func (d *desk) deviceCounts(name string) (counts [2][2]uint64) {
	d.t.Helper()
	for i := range counts {
		for j, what := range []string{"rx", "tx"} {
			text := d.containr("exec", name, "cat", fmt.Sprintf("/sys/class/net/eth%d/statistics/%s_bytes", i, what))
			n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
			if err != nil {
				d.t.Fatal(err)
			}
			counts[i][j] = n
		}
	}
	return counts
}

// trafficOf is what network inspect says that a container has received and sent in networks, in bytes.
func (d *desk) trafficOf(name string, networks ...string) (counts [2][2]uint64) {
	d.t.Helper()
	for i, network := range networks {
		var plugs map[string]struct {
			Name    string
			Traffic struct{ Received, Sent uint64 }
		}
		text := d.containr("network", "inspect", "-f", "{{json .Containers}}", network)
		if err := json.Unmarshal([]byte(text), &plugs); err != nil {
			d.t.Fatalf("%v: %s", err, text)
		}
		for _, p := range plugs {
			if p.Name == name {
				counts[i] = [2]uint64{p.Traffic.Received, p.Traffic.Sent}
			}
		}
	}
	return counts
}
