package cni

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text, want string // want is what the error begins with, or the plugins
		err        error
	}{
		{`{"name": "a", "cniVersion": "1.0.0", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap"}]}`, "bridge host-local portmap", nil},
		{`{"name": "a", "cniVersion": "0.3.1", "type": "ptp"}`, "ptp", nil}, // the older form
		{"{\n\"name\": 7}", "f:2: ", ErrInvalid},
		{"{\n\n\"name\": \"a\"", "f:3: ", ErrInvalid},
		{`{"plugins": [{"type": "x"}]}`, `f:1: it has no "name"`, ErrInvalid},
		{"{\"name\": \"a\",\n\"plugins\": []}", `f:2: it has no "plugins"`, ErrInvalid},
		{"{\"name\": \"a\", \"plugins\": [\n{\"type\": \"../sh\"}]}", "f:2: plugin 1 has no", ErrInvalid},
		{"{\"name\": \"a\",\n\"cniVersion\": \"2.0.0\", \"plugins\": [{\"type\": \"x\"}]}", `f:2: cniVersion "2.0.0"`, ErrVersion},
	} {
		n, err := Parse("f", []byte(c.text))
		if !errors.Is(err, c.err) || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", c.text, err, c.want)
		}
		if got := strings.Join(n.Plugins, " "); err == nil && (got != c.want || n.List.Name != "a") {
			t.Errorf("%s: plugins %s, want %s", c.text, got, c.want)
		}
	}
}

func TestParseNetworks(t *testing.T) {
	short, err := ParseNetworks("a, ns/b@eth5 ,c")
	if diff := cmp.Diff([]Selection{{Name: "a", Interface: "net1"}, {Name: "b", Namespace: "ns", Interface: "eth5"}, {Name: "c", Interface: "net3"}}, short,
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Gateways" }, cmp.Ignore())); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
	}
	long, err := ParseNetworks(`[{"name": "a", "ips": ["10.1.0.5/24", "fd00::5"], "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "TCP"}]}]`)
	if err != nil || len(long) != 1 || long[0].Interface != "net1" || long[0].Ports[0].ContainerPort != 8080 {
		t.Errorf("%v: %+v", err, long)
	}
	for _, bad := range []string{"", "a,", "a@", "a b", `[{"name": ""}]`, `[{"name": "a", "ips": ["x"]}]`, `[{"name": "a", "mac": "x"}]`, `[{"name": "a"}] x`, `[{"name": "a", "unknown": 1}]`, "["} {
		if _, err := ParseNetworks(bad); !errors.Is(err, ErrAnnotation) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]uint64{"10M": 10e6, "1Ki": 1024, "7": 7, "": 0, "M": 0, "1T": 0, "-1": 0, "9999999999G": 0, "1MM": 0} {
		got, err := ParseRate(text)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}

// A plan's steps are all that is needed to make them and to undo them, in a journal too.
func TestConnectIsUndoneInReverse(t *testing.T) {
	var requests []Request
	for i, name := range []string{"a", "b"} {
		n, err := Parse("f", []byte(`{"name": "`+name+`", "cniVersion": "1.0.0", "plugins": [{"type": "x", "capabilities": {"portMappings": true}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		requests = append(requests, Request{Network: n, Container: "id", Interface: "eth" + string(rune('0'+i)), Ports: []Port{{HostPort: 80, ContainerPort: 8080, Protocol: "tcp"}}})
	}
	steps, err := Connect("pid", Place{Netns: "/run/x/netns", Cache: "/run/cni", Bin: []string{"/bin"}}, requests)
	if err != nil {
		t.Fatal(err)
	}
	var undone []string
	for _, c := range (&plan.Plan{Steps: steps}).Undo() {
		action, operand := c.(interface{ Entry() (string, string) }).Entry()
		again, ok := ReadEntry(action, operand)
		if !ok {
			t.Fatalf("%s is not read from a journal", action)
		}
		switch c := again.(type) {
		case linux.CNIDelete:
			a, err := readAttachment(c.Attachment)
			if err != nil || a.Capabilities["portMappings"] == nil {
				t.Fatal(err, c.Attachment)
			}
			undone = append(undone, a.list.Name+" "+a.Interface)
		case linux.UnpinNamespace:
			undone = append(undone, c.Path)
		}
	}
	if diff := cmp.Diff([]string{"b eth1", "a eth0", "/run/x/netns"}, undone); diff != "" {
		t.Error(diff)
	}
	if _, err := Connect("pid", Place{}, []Request{{Network: requests[0].Network, Container: "id", Interface: "eth0", Aliases: []string{"www"}}}); !errors.Is(err, ErrNoCapability) {
		t.Errorf("names that no plugin gives: %v", err)
	}
}

// The namespace keeps its name as long as somebody is connected by it.
func TestNamespaceIsKeptForPlugins(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "id")
	if err := unpin(filepath.Join(dir, "netns")); err != nil {
		t.Errorf("nothing is there: %v", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := lockOf(filepath.Join(dir, "netns"), "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unpin(filepath.Join(dir, "netns")); err == nil {
		t.Error("its name is taken away while eth0 is connected")
	}
}
