package cli_test

import (
	"strings"
	"testing"
)

// TestUserIsToldHowToCopyWhatCannotBePaused: a container without a control group cannot be paused while it, or a volume of its, is
// copied. That is said once, with the flag that copies all the same; and with the flag it is done.
func TestUserIsToldHowToCopyWhatCannotBePaused(t *testing.T) {
	p := newPerson(t)
	p.containr("run", "-d", "--name", "uu", "--network", "none", "-v", "data:/data", "base", "sh", "-c", "echo kept >/data/file; exec sleep 1000")
	for _, command := range [][]string{{"commit", "uu", "made"}, {"volume", "snapshot", "data", "one"}, {"volume", "clone", "data", "other"}, {"volume", "export", "-o", "share/data.tar", "data"}} {
		out, err := p.command(command...)
		if err == nil || !strings.HasPrefix(out, "containr: container uu: it runs, and cannot be paused meanwhile: the container has no control group of its own\nhint: --pause=false ") ||
			!strings.Contains(out, "\nmore: containr explain CTR-1131\n") {
			t.Errorf("%v: %v, %q", command, err, out)
		}
		if out, err := p.command(append(command, "--pause=false")...); err != nil {
			t.Errorf("%v --pause=false: %v, %q", command, err, out)
		}
	}
	if out := p.containr("run", "--rm", "--network", "none", "-v", "data@one:/data", "base", "cat", "/data/file"); out != "kept" {
		t.Errorf("the snapshot has %q", out)
	}
	for _, command := range [][]string{{"pause", "uu"}, {"update", "--memory", "64m", "uu"}} {
		out, err := p.command(command...)
		if err == nil || strings.Count(out, "container uu") != 1 || !strings.Contains(out, "\nhint: `containr doctor`") || !strings.Contains(out, "CTR-1094") {
			t.Errorf("%v: %v, %q", command, err, out)
		}
	}
	p.containr("rm", "-f", "uu")
	p.containr("volume", "rm", "data@one", "data", "other")
}
