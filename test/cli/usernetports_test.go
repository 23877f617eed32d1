package cli_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// TestUserNetworkTellsItsPorts: the ports that a program leads to an ordinary user's container are in all lists, also those that
// were chosen for him; what is in the way of one is said, and that no other can come later.
func TestUserNetworkTellsItsPorts(t *testing.T) {
	p := newPerson(t)
	p.containr("run", "-d", "--name", "his", "--network", "builtin", "-p", "8888:8000", "-P", "--expose", "81", "base", "sleep", "1000")
	chosen, found := strings.CutPrefix(p.containr("port", "his", "81"), "0.0.0.0:")
	chosen, _, _ = strings.Cut(chosen, "\n")
	if n, err := strconv.Atoi(chosen); !found || err != nil || n < 1024 {
		t.Errorf("the port that was chosen is %q", chosen)
	}
	if out := p.containr("port", "his"); !strings.Contains(out, "8000/tcp -> 0.0.0.0:8888\n") || !strings.Contains(out, "81/tcp -> 0.0.0.0:"+chosen) {
		t.Errorf("port: %q", out)
	}
	if out := p.containr("ps", "--format", "{{.Ports}}"); !strings.Contains(out, "0.0.0.0:8888->8000/tcp") || !strings.Contains(out, ":"+chosen+"->81/tcp") {
		t.Errorf("ps: %q", out)
	}
	var ports map[string][]struct{ HostIP, HostPort string }
	must(t, json.Unmarshal([]byte(p.containr("inspect", "-f", "{{json .NetworkSettings.Ports}}", "his")), &ports))
	if list := ports["81/tcp"]; len(list) == 0 || list[0].HostPort != chosen {
		t.Errorf("inspect: %v", ports)
	}
	says := func(want string, args ...string) {
		t.Helper()
		if out, err := p.command(args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %v, %q; want %q", args, err, out, want)
		}
	}
	says("(containr-userne) listens there, for --network builtin", "network", "doctor", "8888")
	says("! nobody in the container listens at 8000/tcp", "network", "doctor", "8888")
	says("! no container publishes it\n    containr run -p 8889:PORT/tcp IMAGE", "network", "doctor", "8889")
	says("the ports when the container starts", "update", "--publish-add", "8889:80", "his")
	tellCallers(t, p.inside("his"), ":8000")
	if out := p.containr("network", "doctor", "8888"); !strings.Contains(out, "a program in the container listens at 8000/tcp") {
		t.Errorf("network doctor: %q", out)
	}
	if out := p.containr("system", "df"); !strings.Contains(out, "Containers") {
		t.Errorf("system df: %q", out)
	}
	p.containr("rm", "-f", "his")
}
