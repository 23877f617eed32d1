package cli_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// captured is a packet of a file in the format pcapng.
type captured struct {
	device string
	sent   bool
	at     time.Time
	data   []byte
	length int
}

// readCapture reads such a file, as the format's description says, and not as it is written.
func readCapture(t *testing.T, file string) (packets []captured, devices []string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.NativeEndian
	for first := true; len(b) > 0; first = false {
		if len(b) < 12 || int(n.Uint32(b[4:])) > len(b) || n.Uint32(b[4:])%4 != 0 || n.Uint32(b[4:]) != n.Uint32(b[n.Uint32(b[4:])-4:]) {
			t.Fatalf("no block: %x", b[:min(len(b), 40)])
		}
		kind, block := n.Uint32(b), b[8:n.Uint32(b[4:])-4]
		b = b[n.Uint32(b[4:]):]
		switch {
		case first != (kind == 0x0A0D0D0A) || first && n.Uint32(block) != 0x1A2B3C4D:
			t.Fatalf("block %x: %x", kind, block)
		case kind == 1:
			devices = append(devices, string(optionOf(block[8:], 2)))
			if n.Uint16(block) != 1 || !bytes.Equal(optionOf(block[8:], 9), []byte{9}) {
				t.Errorf("device of type %d, resolution %v", n.Uint16(block), optionOf(block[8:], 9))
			}
		case kind == 6:
			size := n.Uint32(block[12:])
			flags := optionOf(block[20+(size+3)/4*4:], 2)
			packets = append(packets, captured{devices[n.Uint32(block)], n.Uint32(flags)&3 == 2, time.Unix(0, int64(uint64(n.Uint32(block[4:]))<<32|uint64(n.Uint32(block[8:])))),
				block[20 : 20+size], int(n.Uint32(block[16:]))})
		}
	}
	return packets, devices
}

func optionOf(b []byte, kind uint16) []byte {
	for len(b) >= 4 {
		k, size := binary.NativeEndian.Uint16(b), int(binary.NativeEndian.Uint16(b[2:]))
		if k == kind {
			return b[4 : 4+size]
		}
		b = b[4+(size+3)/4*4:]
	}
	return nil
}

// capture captures in the background; done waits for its end and returns what it says.
func (d *desk) capture(args ...string) (done func() string) {
	d.t.Helper()
	said := filepath.Join(d.t.TempDir(), "said")
	file, err := os.Create(said)
	if err != nil {
		d.t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("containr", append([]string{"capture"}, args...)...)
	cmd.Env, cmd.Stderr = d.environment, file
	d.host.Do(func() { err = cmd.Start() })
	if err != nil {
		d.t.Fatal(err)
	}
	text := func() string {
		b, err := os.ReadFile(said)
		if err != nil {
			d.t.Fatal(err)
		}
		return string(b)
	}
	for began := time.Now(); !strings.Contains(text(), "capturing"); {
		if time.Since(began) > networkPatience {
			d.t.Fatalf("it does not begin: %s", text())
		}
	}
	return func() string {
		if err := cmd.Wait(); err != nil {
			d.t.Errorf("capture: %v", err)
		}
		return text()
	}
}

// What a container sends and receives is in the file: each packet once, with its device, its direction and its time. A capture
// ends with its container.
func TestCapture(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	dir := t.TempDir()
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "one")
	d.containr("network", "create", "--subnet", "10.2.0.0/24", "two")
	d.containr("run", "-d", "--name", "box", "--network", "one", "base", "sleep", "1000")
	whole, short := filepath.Join(dir, "whole"), filepath.Join(dir, "short")
	began := time.Now()
	all := d.capture("--write", whole, "box")
	some := d.capture("-w", short, "-i", "eth0", "-c", "1", "-s", "20", "box")
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][]string{{"-i", "eth7", "box"}, {"nobody"}} {
		for _, file := range []string{old, filepath.Join(dir, "none")} {
			d.refused(wrong[len(wrong)-1], append([]string{"capture", "-w", file}, wrong...)...)
		}
	}
	if b, err := os.ReadFile(old); err != nil || string(b) != "old" {
		t.Errorf("a capture that did not begin left %q of an old one (%v)", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("a capture that did not begin left a file")
	}
	d.containr("network", "connect", "two", "box") // a device that was not there
	d.containr("exec", "box", "ping", "-c", "1", "10.1.0.1")
	d.containr("exec", "box", "ping", "-c", "1", "10.2.0.1")
	d.containr("exec", "box", "ping", "-c", "1", "127.0.0.1")
	if said := some(); !strings.Contains(said, "1 packets written, 0 dropped") {
		t.Errorf("the capture of one packet says %s", said)
	}
	d.containr("rm", "-f", "box")
	if said := all(); !strings.Contains(said, "packets written, 0 dropped") {
		t.Errorf("the capture says %s", said)
	}
	packets, devices := readCapture(t, whole)
	seen := map[string]int{}
	for _, p := range packets {
		if p.at.Before(began) || p.at.After(time.Now()) || p.length != len(p.data) {
			t.Errorf("a packet of %d bytes, of which %d are there, at %v", p.length, len(p.data), p.at)
		}
		if len(p.data) > 34 && p.data[12] == 8 && p.data[13] == 0 && p.data[23] == 1 { // ICMP over IPv4 over Ethernet
			way := "receives"
			if p.sent {
				way = "sends"
			}
			seen[p.device+" "+way]++
		}
	}
	for _, want := range []string{"eth0 sends", "eth0 receives", "eth1 sends", "eth1 receives"} {
		if seen[want] != 1 {
			t.Errorf("%s %d packets of ICMP, want 1", want, seen[want])
		}
	}
	if seen["lo receives"] != 2 || seen["lo sends"] != 0 {
		t.Errorf("at the loopback device there are %v packets", seen)
	}
	if got := strings.Join(devices, " "); got != "lo eth0 eth1" {
		t.Errorf("the devices are %s", got)
	}
	packets, devices = readCapture(t, short)
	if len(packets) != 1 || len(packets[0].data) != 20 || packets[0].length <= 20 || len(devices) != 1 || devices[0] != "eth0" {
		t.Errorf("of one device there is %v, of %v", packets, devices)
	}
	d.containr("network", "rm", "one", "two")
	d.finish(before)
}

// What cannot be captured is said.
func TestCaptureRefuses(t *testing.T) {
	d := newDesk(t)
	d.containr("run", "-d", "--name", "box", "base", "sleep", "1000")
	d.refused("interface eth7: there is none of this name; there are lo", "capture", "-i", "eth7", "box")
	d.refused("--count and --snapshot-length are no less than 0", "capture", "-c", "-1", "box")
	d.refused("no such file or directory", "capture", "-w", "/no/such/file", "box")
	d.containr("rm", "-f", "box")
	d.refused("no such container", "capture", "box")
	d.containr("create", "--name", "box", "base", "true")
	d.refused("container is not running", "capture", "box")
	d.containr("rm", "box")
}
