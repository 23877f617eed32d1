package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/program"
)

// changing are the calls that change something: of the kernel's networks and rules (sendto), or of files.
const changing = "sendto,mkdirat,symlinkat,renameat,unlinkat,linkat,write,ftruncate"

// killedAt runs containr until one of its threads is about to make the n-th call of those, and kills it there; killed is
// false if it came to its end.
func (d *desk) killedAt(calls string, n int, args ...string) (killed bool) {
	d.t.Helper()
	// What it leaves running, a container or the monitor, is no affair of strace's: it ends when containr has.
	script := `containr "$@"; echo $? > "$DONE"; kill -TERM $PPID`
	done := filepath.Join(d.t.TempDir(), "done")
	var out []byte
	d.host.Do(func() {
		cmd := exec.Command("strace", append([]string{"-f", "-qq", "-o", "/dev/null", "-e", "trace=" + calls,
			"-e", "inject=" + calls + ":signal=KILL:when=" + strconv.Itoa(n), "sh", "-c", script, "sh"}, args...)...)
		cmd.Env = append(d.environment, "DONE="+done)
		out, _ = cmd.CombinedOutput() // strace was told to end
	})
	status, err := os.ReadFile(done) // which sh may have been killed at
	switch text := strings.TrimSpace(string(status)); {
	case err != nil, text == "", text == "137":
		return true
	case text != "0":
		d.t.Fatalf("containr %s, to be killed at call %d: exit status %s\n%s", strings.Join(args, " "), n, text, out)
	}
	return false
}

// policyHolds checks that after a policy that lets nothing in was to be replaced by one that lets nothing out, one of the two is
// listed, and holds.
func (d *desk) policyHolds(n int, killed bool) {
	d.t.Helper()
	listed := d.containr("network", "policy", "ls", "--format", "{{.Name}} {{.Ingress}} {{.Egress}}", "one")
	_, err := d.command("exec", "web", "ping", "-c", "1", "-W", "1", "10.1.0.1")
	if want := map[bool]string{true: "closed none free", false: "closed free none"}[err == nil]; listed != want || !killed && err == nil {
		d.t.Errorf("killed at call %d: %v; the policy is listed as %q; what is sent is answered: %v", n, killed, listed, err == nil)
	}
}

// Whoever is killed at whatever call while a network is made, used, changed or removed: what is left goes with the usual
// commands, and nothing stays on the host.
func TestKilledAtEveryCall(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skipf("needs strace: %v", err)
	}
	former, policy := (&desk{t: t}).policy("closed", "ingress = []\n"), (&desk{t: t}).policy("closed", "egress = []\n")
	for _, c := range []struct {
		name    string
		prepare [][]string
		command []string
	}{
		{"create a network", nil, []string{"network", "create", "--subnet", "10.1.0.0/24", "one"}},
		{"create a container", [][]string{{"network", "create", "one"}}, []string{"create", "--name", "web", "--network", "one", "-p", "8080:80", "base", "true"}},
		{"run", [][]string{{"network", "create", "one"}}, []string{"run", "--name", "web", "--network", "one", "-p", "8080:80", "base", "true"}},
		{"connect", [][]string{{"network", "create", "one"}, {"network", "create", "two"}, {"run", "-d", "--name", "web", "--network", "one", "base", "sleep", "1000"}},
			[]string{"network", "connect", "two", "web"}},
		{"disconnect", [][]string{{"network", "create", "one"}, {"network", "create", "two"},
			{"run", "-d", "--name", "web", "--network", "one", "-p", "8080:80", "base", "sleep", "1000"}, {"network", "connect", "two", "web"}},
			[]string{"network", "disconnect", "one", "web"}},
		{"remove a container", [][]string{{"network", "create", "one"}, {"run", "-d", "--name", "web", "--network", "one", "-p", "8080:80", "base", "sleep", "1000"}},
			[]string{"rm", "-f", "web"}},
		{"remove a network", [][]string{{"network", "create", "one"}, {"run", "--rm", "--network", "one", "base", "true"}}, []string{"network", "rm", "one"}},
		{"run with a policy", [][]string{{"network", "create", "one"}}, []string{"run", "--name", "web", "--network", "one", "--ingress", "deny", "--egress", "host", "base", "true"}},
		{"apply a policy", [][]string{{"network", "create", "--subnet", "10.1.0.0/24", "one"}, {"run", "-d", "--name", "web", "--network", "one", "base", "sleep", "1000"},
			{"network", "policy", "apply", "one", former}}, []string{"network", "policy", "apply", "one", policy}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.containr("images") // the built-in image is there
			before := d.host.State()
			for n, alive := 1, false; !alive && !t.Failed(); n++ {
				if n > 200 {
					t.Fatal("200 calls of one thread, and no end")
				}
				for _, args := range c.prepare {
					d.containr(args...)
				}
				killed := d.killedAt(changing, n, c.command...)
				alive = !killed
				if c.name == "apply a policy" {
					d.policyHolds(n, killed)
				}
				if out, err := d.command("rm", "-f", "web"); err != nil && !strings.Contains(out, "no such container") {
					t.Errorf("killed at call %d: rm -f web: %s", n, out)
				}
				d.containr("network", "prune", "-f")
				if now := d.host.State(); now != before {
					t.Fatalf("killed at call %d: the host has now\n%s\nand had before\n%s", n, now, before)
				}
				if left, _ := filepath.Glob(filepath.Join(d.root, "networks", "*")); len(left) > 0 {
					t.Fatalf("killed at call %d: left: %v", n, left)
				}
				if left, _ := filepath.Glob(filepath.Join(d.root, "run", "forwarding*")); len(left) > 0 {
					t.Fatalf("killed at call %d: left: %v", n, left)
				}
			}
			if err := program.AwaitMonitor(d.root); err != nil {
				t.Error(err)
			}
		})
	}
}
