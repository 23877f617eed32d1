package durable

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A socket takes the place of one that a killed process left, also where its path is longer than an address may be.
func TestListenTakesAPlace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const name = "socket"
	former, err := Listen(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	former.Close() // as after a kill, the name stays
	l, err := Listen(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c, err := net.Dial("unix", SocketAddress(d, name))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
