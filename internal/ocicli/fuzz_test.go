package ocicli

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/runtime"
)

// mutator changes configurations at random, and in the same way each time.
type mutator struct{ *rand.Rand }

// odd is a value that may be put in the place of any other.
func (m mutator) odd() any {
	list := []any{nil, true, false, 0.0, -1.0, 1.0, 4294967296.0, 1e19, -9223372036854775808.0, "", "/", "..", "../..", "/proc/self/fd/3", "a\x00b", "rshared",
		"CAP_SYS_ADMIN", "pid", "none", strings.Repeat("x", 5000), []any{}, map[string]any{}, []any{nil}, []any{""}, map[string]any{"": nil}}
	return list[m.IntN(len(list))]
}

// mutate changes one to four places of a configuration.
func (m mutator) mutate(text []byte) []byte {
	var config any
	if err := json.Unmarshal(text, &config); err != nil {
		panic(err) // it is one of ours
	}
	for range 1 + m.IntN(4) {
		config = m.change(config, 0)
	}
	out, err := json.Marshal(config)
	if err != nil {
		panic(err)
	}
	if m.IntN(50) == 0 { // no JSON any more
		out = out[:m.IntN(len(out))]
	}
	return out
}

// change goes down a random way and puts something else at its end.
func (m mutator) change(v any, depth int) any {
	if depth > 1 && m.IntN(4) == 0 {
		return m.odd()
	}
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		if len(keys) == 0 {
			return m.odd()
		}
		k := keys[m.IntN(len(keys))]
		switch m.IntN(12) {
		case 0:
			delete(v, k)
		case 1:
			v[k+"x"] = v[k]
		default:
			v[k] = m.change(v[k], depth+1)
		}
		return v
	case []any:
		if len(v) == 0 {
			return m.odd()
		}
		i := m.IntN(len(v))
		switch m.IntN(6) {
		case 0:
			return slices.Delete(v, i, i+1)
		case 1:
			return append(v, v[i])
		default:
			v[i] = m.change(v[i], depth+1)
		}
		return v
	}
	return m.odd()
}

// rich is what a configuration may have besides what runtimes usually get.
const rich = `{
	"domainname": "example", "annotations": {"org.systemd.property.TimeoutStopUSec": "uint64 1", "run.oci.keep_original_groups": "0"},
	"process": {
		"consoleSize": {"height": 9, "width": 9}, "user": {"uid": 5, "gid": 6, "umask": 63, "additionalGids": [7, 8]}, "rlimits": [{"type": "RLIMIT_CORE", "hard": 1, "soft": 0}],
		"noNewPrivileges": true, "oomScoreAdj": 500, "scheduler": {"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
		"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4}, "execCPUAffinity": {"initial": "0", "final": "0"}},
	"hooks": {
		"prestart": [{"path": "/bin/true"}], "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 0"], "env": ["A=b"], "timeout": 9}], "createContainer": [{"path": "/bin/true"}],
		"startContainer": [{"path": "/probe", "args": ["probe"]}], "poststart": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true"}]},
	"linux": {
		"timeOffsets": {"monotonic": {"secs": 5, "nanosecs": 6}, "boottime": {"secs": 7}}, "personality": {"domain": "LINUX"}, "rootfsPropagation": "private",
		"devices": [{"path": "/dev/more", "type": "c", "major": 1, "minor": 3, "fileMode": 420, "uid": 1, "gid": 2}, {"path": "/dev/pipe", "type": "p"}],
		"maskedPaths": ["/proc/kcore", "/sys/firmware"], "readonlyPaths": ["/proc/bus"], "mountLabel": "", "sysctl": {"net.ipv4.ip_unprivileged_port_start": "5", "kernel.msgmax": "9000"},
		"resources": {
			"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"}],
			"cpu": {"shares": 100, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"}, "memory": {"reservation": 10000000, "checkBeforeUpdate": true}},
		"seccomp": {
			"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
			"syscalls": [{"names": ["kexec_load", "not_there"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
				"args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}, {"index": 1, "value": 4294967296, "op": "SCMP_CMP_GT"}]}]}}}`

// enriched is a configuration with all that, and mounts with every kind of option.
func enriched(root string) *specs.Spec {
	spec := exampleSpec()
	if err := json.Unmarshal([]byte(rich), spec); err != nil {
		panic(err) // it is ours
	}
	spec.Root = &specs.Root{Path: root}
	spec.Process.Terminal, spec.Process.Args = false, []string{"/probe", "-report"}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	spec.Mounts = append(spec.Mounts[:6], specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "tmpcopyup", "size=1m", "mode=1777"}},
		specs.Mount{Destination: "/mnt", Type: "bind", Source: "/sys/kernel", Options: []string{"rbind", "rro", "rslave", "noatime"}})
	return spec
}

// seeds are valid configurations that between them have most fields.
func seeds(root string) [][]byte {
	n := func(n int64) *int64 { return &n }
	full := exampleSpec()
	full.Root = &specs.Root{Path: root}
	full.Process.Terminal, full.Process.Args = false, []string{"/probe", "-report"}
	full.Mounts = full.Mounts[:6]
	full.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(1 << 28)}, Pids: &specs.LinuxPids{Limit: n(100)}}
	full.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	full.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActErrno}}}
	full.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true", Args: []string{"true"}}}}
	full.Annotations = map[string]string{"a": "b"}
	user := exampleSpec()
	makeRootless(user)
	user.Root, user.Process.Terminal, user.Process.Args = &specs.Root{Path: root}, false, []string{"/probe", "-report"}
	var list [][]byte
	for _, s := range []*specs.Spec{full, user, enriched(root)} {
		text, err := json.Marshal(s)
		if err != nil {
			panic(err)
		}
		list = append(list, text)
	}
	return list
}

// Ten thousand configurations, valid ones changed at random, are planned or refused in
// words; every fortieth is made, too, and its container runs or is refused, and goes.
func TestRandomConfigurations(t *testing.T) {
	s := newSite(t, nil)
	// A root file system "../.." is the test's own too.
	s.bundle = filepath.Join(s.bundle, "deep", "down")
	if err := os.MkdirAll(s.bundle, 0o755); err != nil {
		t.Fatal(err)
	}
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r := &runtime.Runtime{Root: s.root, Facts: facts}
	count, end := 10_000, time.Now().Add(2*time.Minute)
	if testing.Short() {
		count = 500
	}
	m := mutator{rand.New(rand.NewPCG(3, 1))}
	list, planned := seeds(testkit.Rootfs(t)), 0
	for _, config := range list { // as they are, they are containers
		testkit.WriteFile(t, filepath.Join(s.bundle, "config.json"), string(config), 0o644)
		s.must("create", "c")
		s.must("start", "c")
		s.must("delete", "--force", "c")
	}
	for i := range count {
		if time.Now().After(end) {
			t.Fatalf("%d configurations took two minutes", i)
		}
		config := m.mutate(list[i%len(list)])
		testkit.WriteFile(t, filepath.Join(s.bundle, "config.json"), string(config), 0o644)
		fail := func(err error) { t.Fatalf("configuration %d: %v\n%s", i, err, config) }
		func() {
			defer func() {
				if p := recover(); p != nil {
					fail(fmt.Errorf("panic: %v", p))
				}
			}()
			req := &runtime.CreateRequest{ID: "c", Bundle: s.bundle, Wait: true, Stdio: [3]*os.File{null, null, null}}
			in, err := r.Input(req)
			if err == nil {
				_, err = runtime.Compile(in)
			}
			if err != nil {
				if len(err.Error()) < 10 {
					fail(fmt.Errorf("no words: %w", err))
				}
				return
			}
			planned++
		}()
		if i%40 == 0 {
			_, errs, code := s.run("create", "c")
			if code != 0 && (code != 1 || !strings.Contains(errs, "containr-runtime: ") || strings.Contains(errs, "goroutine ")) {
				fail(fmt.Errorf("create: exit code %d: %s", code, errs))
			}
			if _, errs, code := s.run("delete", "--force", "c"); code != 0 {
				fail(fmt.Errorf("delete: %s", errs))
			}
			if left := s.left(); len(left) > 0 {
				fail(fmt.Errorf("left: %q", left))
			}
		}
	}
	t.Logf("%d of %d were planned", planned, count)
	if planned < count/20 || planned > count*19/20 {
		t.Errorf("%d of %d were planned: the test is one-sided", planned, count)
	}
}
