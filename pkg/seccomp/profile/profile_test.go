package profile_test

import (
	"encoding/json"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	docker "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp"
	"github.com/containr/containr/pkg/seccomp/profile"
)

// Docker's own evaluation is for the machine it runs on; there both must agree.
func TestDefaultIsWhatDockerMakes(t *testing.T) {
	if _, err := seccomp.ArchOf(runtime.GOARCH); err != nil {
		t.Skip(err)
	}
	for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_SYS_PTRACE", "CAP_SYS_TIME"}, {"CAP_DAC_READ_SEARCH", "CAP_BPF", "CAP_SYS_NICE"}} {
		want, err := docker.GetDefaultProfile(&specs.Spec{
			Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := profile.Default(profile.Target{Caps: caps})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q:\n%s", caps, diff)
		}
	}
}

// rulesFor returns the rules of a policy that name a call.
func rulesFor(p *specs.LinuxSeccomp, name string) []specs.LinuxSyscall {
	var found []specs.LinuxSyscall
	for _, call := range p.Syscalls {
		if slices.Contains(call.Names, name) {
			found = append(found, call)
		}
	}
	return found
}

func TestConditions(t *testing.T) {
	old := profile.Kernel{Major: 4, Minor: 7}
	for _, test := range []struct {
		name   string
		target profile.Target
		call   string
		want   int
	}{
		{"capability that is there", profile.Target{Arch: seccomp.AMD64, Caps: []string{"CAP_SYS_BOOT"}}, "reboot", 1},
		{"capability that is not", profile.Target{Arch: seccomp.AMD64}, "reboot", 0},
		{"capability that excludes", profile.Target{Arch: seccomp.AMD64, Caps: []string{"CAP_SYS_ADMIN"}}, "clone3", 1},
		{"architecture", profile.Target{Arch: seccomp.AMD64}, "arch_prctl", 1},
		{"other architecture", profile.Target{Arch: seccomp.ARM64}, "arch_prctl", 0},
		{"architecture that docker calls x86", profile.Target{Arch: seccomp.I386}, "modify_ldt", 1},
		{"new kernel", profile.Target{Arch: seccomp.AMD64, Kernel: profile.Kernel{Major: 6, Minor: 18}}, "ptrace", 1},
		{"first kernel", profile.Target{Arch: seccomp.AMD64, Kernel: profile.Kernel{Major: 4, Minor: 8}}, "ptrace", 1},
		{"any kernel", profile.Target{Arch: seccomp.AMD64}, "ptrace", 1},
		{"old kernel", profile.Target{Arch: seccomp.AMD64, Kernel: old}, "ptrace", 0},
		{"old kernel with capability", profile.Target{Arch: seccomp.AMD64, Kernel: old, Caps: []string{"CAP_SYS_PTRACE"}}, "ptrace", 1},
	} {
		if got := rulesFor(profile.Default(test.target), test.call); len(got) != test.want {
			t.Errorf("%s: %s has rules %v", test.name, test.call, got)
		}
	}
}

func TestArchitecturesComeFromTheMap(t *testing.T) {
	for _, test := range []struct {
		arch seccomp.Arch
		want []specs.Arch
	}{
		{seccomp.AMD64, []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}},
		{seccomp.ARM64, []specs.Arch{specs.ArchAARCH64, specs.ArchARM}},
		{seccomp.I386, nil},
	} {
		if got := profile.Default(profile.Target{Arch: test.arch}).Architectures; !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.arch, got, test.want)
		}
	}
}

// What docker writes as a file must load as what it has built in.
func TestLoadReadsDockersOwnProfile(t *testing.T) {
	text, err := json.Marshal(docker.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN"}} {
		target := profile.Target{Arch: seccomp.ARM64, Caps: caps, Kernel: profile.Kernel{Major: 6, Minor: 1}}
		got, err := profile.Load(strings.NewReader(string(text)), target)
		if err != nil {
			t.Fatal(err)
		}
		// In JSON no list of arguments and an empty one are the same.
		want := profile.Default(target)
		for _, p := range []*specs.LinuxSeccomp{got, want} {
			for i := range p.Syscalls {
				if len(p.Syscalls[i].Args) == 0 {
					p.Syscalls[i].Args = nil
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestLoadReadsPlainOCI(t *testing.T) {
	text := `{
		"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
		"architectures": ["SCMP_ARCH_X86_64"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
		"listenerPath": "/run/agent.sock", "listenerMetadata": "m",
		"syscalls": [
			{"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "c", "includes": {}, "excludes": {},
			 "args": [{"index": 1, "value": 18446744073709551615, "valueTwo": 7, "op": "SCMP_CMP_NE"}]},
			{"name": "openat", "action": "SCMP_ACT_NOTIFY", "args": null}
		]
	}`
	got, err := profile.Load(strings.NewReader(text), profile.Target{})
	if err != nil {
		t.Fatal(err)
	}
	enosys := uint(38)
	want := &specs.LinuxSeccomp{
		DefaultAction:    specs.ActErrno,
		DefaultErrnoRet:  &enosys,
		Architectures:    []specs.Arch{specs.ArchX86_64},
		Flags:            []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog},
		ListenerPath:     "/run/agent.sock",
		ListenerMetadata: "m",
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 1, Value: ^uint64(0), ValueTwo: 7, Op: specs.OpNotEqual},
			}},
			{Names: []string{"openat"}, Action: specs.ActNotify},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadErrorsNameTheField(t *testing.T) {
	calls := func(s string) string { return `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[` + s + `]}` }
	for _, test := range []struct{ want, text string }{
		{"seccomp profile: empty", ""},
		{"seccomp profile: empty", " \n"},
		{"seccomp profile: not JSON: invalid character 'x'", "x"},
		{"seccomp profile: unexpected EOF", `{"defaultAction":`},
		{"seccomp profile: something follows the profile", calls("") + "{}"},
		{"seccomp profile: not JSON: invalid character '}'", calls("") + "}"},
		{`seccomp profile: json: unknown field "sycalls"`, `{"defaultAction":"SCMP_ACT_ERRNO","sycalls":[]}`},
		{`seccomp profile: json: unknown field "arg"`, calls(`{"names":["read"],"action":"SCMP_ACT_ALLOW","arg":[]}`)},
		{"seccomp profile: syscalls.names: string where []string belongs", calls(`{"names":"read","action":"SCMP_ACT_ALLOW"}`)},
		{"seccomp profile: syscalls.args.index: number -1 where uint belongs", calls(`{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":-1}]}`)},
		{"seccomp profile: larger than 1048576 bytes", calls("") + strings.Repeat(" ", profile.MaxSize)},
		{"seccomp profile: larger than 1048576 bytes", `{"defaultAction":"` + strings.Repeat("A", profile.MaxSize)},
		{"seccomp profile: architectures and archMap are both given", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}`},
		{"seccomp profile: defaultErrno: without the number", `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EPERM"}`},
		{"seccomp profile: syscalls[1].errno: without the number", calls(`{"names":["read"],"action":"SCMP_ACT_ALLOW"},{"names":["read"],"action":"SCMP_ACT_ERRNO","errno":"EIO"}`)},
		{"seccomp profile: syscalls[0].name: given as well as names", calls(`{"name":"read","names":["read"],"action":"SCMP_ACT_ALLOW"}`)},
		{`seccomp profile: syscalls[0].includes.minKernel: "5" is not`, calls(`{"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"5"}}`)},
		{`seccomp profile: syscalls[0].excludes.minKernel: "0.0" is not`, calls(`{"names":["read"],"action":"SCMP_ACT_ALLOW","excludes":{"minKernel":"0.0"}}`)},
		{"seccomp policy: defaultAction: no action", "{}"},
		{"seccomp policy: defaultAction: no action", "null"},
		{"seccomp policy: syscalls[0].names: no system call named", calls(`{"action":"SCMP_ACT_ALLOW"}`)},
		{`seccomp policy: syscalls[0].action: unknown action "ALLOW"`, calls(`{"names":["read"],"action":"ALLOW","includes":{"caps":["CAP_NONE"]}}`)},
		{`seccomp policy: syscalls[0].args[0].op: unknown operator "EQ"`, calls(`{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"op":"EQ"}]}`)},
		{"for this target: seccomp policy: flags[0]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule", `{"defaultAction":"SCMP_ACT_ERRNO","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY","includes":{"caps":["CAP_NONE"]}}]}`},
		{`seccomp policy: architectures[1]: unknown architecture "x32"`, `{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86","subArchitectures":["x32"]}]}`},
	} {
		_, err := profile.Load(strings.NewReader(test.text), profile.Target{})
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%.100s: got %v, want %q", test.text, err, test.want)
		}
	}
}

func TestParseKernel(t *testing.T) {
	for release, want := range map[string]profile.Kernel{
		"6.18.44-fc-v669":  {Major: 6, Minor: 18},
		"4.8":              {Major: 4, Minor: 8},
		"3.12-1-amd64":     {Major: 3, Minor: 12},
		"3.12-rc5":         {Major: 3, Minor: 12},
		"5.15.0-105-lowl.": {Major: 5, Minor: 15},
	} {
		if got, err := profile.ParseKernel(release); err != nil || got != want {
			t.Errorf("%s: got %v, %v", release, got, err)
		}
	}
	for _, release := range []string{"", "6", "6.", "6.x", ".5", "v6.1", "-6.1", "6.99999"} {
		if got, err := profile.ParseKernel(release); err == nil {
			t.Errorf("%q: got %v", release, got)
		}
	}
}

// Whatever Load accepts, Check accepts for every target.
func FuzzLoad(f *testing.F) {
	text, err := json.Marshal(docker.DefaultProfile())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	small, err := os.ReadFile("../testdata/small.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, target := range []profile.Target{{}, {Arch: seccomp.ARM64, Caps: []string{"CAP_SYS_ADMIN"}, Kernel: profile.Kernel{Major: 4}}} {
			p, err := profile.Load(strings.NewReader(string(text)), target)
			if err != nil {
				continue
			}
			if err := seccomp.Check(p); err != nil {
				t.Errorf("loaded, but: %v", err)
			}
		}
	})
}
