package ocicli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/probe"
)

// variable is what a program says that a variable of its environment is, of which there is one at most.
func variable(t *testing.T, report, name string) string {
	t.Helper()
	var r probe.Report
	if err := json.Unmarshal([]byte(report), &r); err != nil {
		t.Fatalf("%q: %v", report, err)
	}
	i := slices.IndexFunc(r.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	if i < 0 {
		return "none"
	}
	return strings.TrimPrefix(r.Env[i], name+"=")
}

// A program has a HOME: that of its user in the container's /etc/passwd, unless it is told another one. Callers such as docker leave it to the
// runtime.
func TestProgramsHaveAHome(t *testing.T) {
	passwd := "root:x:0:0:root:/root:/bin/sh\nshort:x:1000:1000\nsomebody:x:1000:1000:Some Body:/home/somebody:/bin/sh\nlast:x:1000:1000::/no:/no\nempty:x:7:7:::\n"
	for name, c := range map[string]struct {
		uid  uint32
		env  []string
		want string
	}{
		"root": {0, nil, "/root"}, "somebody": {1000, nil, "/home/somebody"}, "nobody": {4242, nil, "/"}, "no directory": {7, nil, "/"},
		"empty": {1000, []string{"HOME="}, "/home/somebody"}, "told": {1000, []string{"HOME=/elsewhere"}, "/elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(spec *specs.Spec) {
				if err := os.MkdirAll(filepath.Join(spec.Root.Path, "etc"), 0o755); err != nil {
					t.Fatal(err)
				}
				testkit.WriteFile(t, filepath.Join(spec.Root.Path, "etc/passwd"), passwd, 0o644)
				spec.Process.Args, spec.Process.Env, spec.Process.User.UID = []string{"/probe", "-report"}, c.env, c.uid
			})
			if got := variable(t, s.must("run", "c"), "HOME"); got != c.want {
				t.Errorf("HOME is %q, want %q", got, c.want)
			}
		})
	}
	s := newSite(t, func(spec *specs.Spec) {
		if err := os.MkdirAll(filepath.Join(spec.Root.Path, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, filepath.Join(spec.Root.Path, "etc/passwd"), passwd, 0o644)
		spec.Process.Env = []string{"A=old"}
	})
	s.must("create", "c")
	defer s.run("delete", "--force", "c")
	s.must("start", "c")
	if got := variable(t, s.must("exec", "--user", "1000", "c", "/probe", "-report"), "HOME"); got != "/home/somebody" {
		t.Errorf("in exec HOME is %q", got)
	}
	// The file is the container's: what is none must not keep us, nor lead out.
	table := filepath.Join(s.bundle, "rootfs/etc/passwd")
	for _, to := range []string{"/dev/zero", "/proc/1/fd/0", "../../../../../../etc/passwd", "passwd"} {
		if err := os.Remove(table); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, table); err != nil {
			t.Fatal(err)
		}
		if got := variable(t, s.must("exec", "--user", "0", "c", "/probe", "-report"), "HOME"); got != "/" {
			t.Errorf("%s: HOME is %q", to, got)
		}
	}
}

// Of several values of a variable the last holds, as with runc: a program would take the first. What is no variable is refused.
func TestLastValueOfAVariableHolds(t *testing.T) {
	s := newSite(t, func(spec *specs.Spec) { spec.Process.Env = []string{"A=first", "B=b", "A=old"} })
	s.must("create", "c")
	defer s.run("delete", "--force", "c")
	s.must("start", "c")
	if got := variable(t, s.must("exec", "c", "/probe", "-report"), "A"); got != "old" {
		t.Errorf("A is %q", got)
	}
	if got := variable(t, s.must("exec", "-e", "A=new", "-e", "A=newest", "c", "/probe", "-report"), "A"); got != "newest" {
		t.Errorf("A is %q", got)
	}
	for _, odd := range []string{"A", "=b", ""} {
		s.refused("is no NAME=VALUE", "exec", "-e", odd, "c", "/probe", "-report")
	}
	other := newSite(t, func(spec *specs.Spec) { spec.Process.Env = []string{"PATH=/", "FIVE"} })
	other.refused(`/process/env/1: "FIVE" is no NAME=VALUE`, "create", "c")
}

// A container is made without the capabilities that the kernel does not know, and that is said (runtime-spec 1.3, config.md).
func TestUnknownCapabilitiesAreLeftOut(t *testing.T) {
	s := newSite(t, func(spec *specs.Spec) {
		spec.Process.Args = []string{"/probe", "-report"}
		for _, list := range []*[]string{&spec.Process.Capabilities.Bounding, &spec.Process.Capabilities.Permitted, &spec.Process.Capabilities.Effective} {
			*list = []string{"CAP_KILL", "CAP_OF_TOMORROW"}
		}
	})
	out, errs, code := s.run("run", "c")
	if code != 0 || strings.Count(errs, "CAP_OF_TOMORROW") != 1 || strings.Contains(errs, "CAP_KILL") {
		t.Errorf("exit code %d, said %q", code, errs)
	}
	var r probe.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if got := r.Status.Caps; got.Bounding != 1<<unix.CAP_KILL || got.Effective != 1<<unix.CAP_KILL {
		t.Errorf("%+v", got)
	}
}

// A limit that is set twice is refused (runtime-spec 1.3: an error MUST be generated).
func TestTwoLimitsOfOneKindAreRefused(t *testing.T) {
	s := newSite(t, func(spec *specs.Spec) {
		spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_NOFILE", Soft: 9, Hard: 9}, {Type: "RLIMIT_CORE"}}
	})
	s.refused("/process/rlimits/2: RLIMIT_CORE is limited twice", "create", "c")
}

// A kernel parameter is the host's when the container joins the host's namespace by its path.
func TestParametersOfAJoinedHostAreRefused(t *testing.T) {
	for kind, c := range map[specs.LinuxNamespaceType][2]string{
		specs.NetworkNamespace: {"net", "net.ipv4.ip_forward"}, specs.IPCNamespace: {"ipc", "kernel.msgmax"}, specs.UTSNamespace: {"uts", "kernel.domainname"},
	} {
		s := newSite(t, func(spec *specs.Spec) {
			for i := range spec.Linux.Namespaces {
				if n := &spec.Linux.Namespaces[i]; n.Type == kind {
					n.Path = "/proc/1/ns/" + c[0]
				}
			}
			if kind == specs.UTSNamespace {
				spec.Hostname = ""
			}
			spec.Linux.Sysctl = map[string]string{c[1]: "1"}
		})
		before, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(c[1], ".", "/"))
		if err != nil {
			t.Fatal(err)
		}
		if same, err := os.Readlink("/proc/1/ns/" + c[0]); err != nil || same != own(t, c[0]) {
			t.Skipf("skipped: process 1 is not in our namespace %s (%v)", c[0], err)
		}
		s.refused("is that of its caller", "create", "c")
		if after, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(c[1], ".", "/")); string(after) != string(before) {
			t.Errorf("%s was %q and is %q", c[1], before, after)
		}
	}
}

// own is the namespace of a kind that this process is in.
func own(t *testing.T, name string) string {
	t.Helper()
	link, err := os.Readlink("/proc/self/ns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// A container that cannot be read does not hide the others.
func TestListTellsTheOthers(t *testing.T) {
	s := newSite(t, nil)
	s.must("create", "one")
	defer s.run("delete", "--force", "one")
	if err := os.Mkdir(filepath.Join(s.root, "two"), 0o700); err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, filepath.Join(s.root, "two/state.json"), "{", 0o600)
	out, errs, code := s.run("list", "-q")
	if code != 0 || out != "one\n" || !strings.Contains(errs, `"two"`) {
		t.Errorf("exit code %d, listed %q, said %q", code, out, errs)
	}
}
