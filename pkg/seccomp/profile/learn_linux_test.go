package profile_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp"
	"github.com/containr/containr/pkg/seccomp/profile"
)

func seen(t *testing.T, a seccomp.Arch, names ...string) []profile.Seen {
	t.Helper()
	var out []profile.Seen
	for _, n := range names {
		number, ok := a.Number(n)
		if !ok {
			t.Fatalf("%s has no %s", a, n)
		}
		out = append(out, profile.Seen{Arch: a, Number: number})
	}
	return out
}

// While it is watched a program is as confined as without: what was allowed is asked about, all else is as it was.
func TestWatchedAsksAboutWhatIsAllowed(t *testing.T) {
	a := seccomp.AMD64
	base := profile.Default(profile.Target{Arch: a})
	w, err := profile.Watched(base, "/run/agent", false)
	if err != nil {
		t.Fatal(err)
	}
	before, after := compile(t, base, a), compile(t, w, a)
	write, _ := a.Number("write")
	for number := range uint32(500) {
		for _, x := range firsts {
			want := verdict(t, before, a, number, x)
			if want == allowed && number != write {
				want = "notify"
			}
			if got := verdict(t, after, a, number, x); got != want {
				name, _ := a.Name(number)
				t.Fatalf("%s(%#x): %s, want %s", name, x, got, want)
			}
		}
	}
	for text, p := range map[string]*specs.LinuxSeccomp{
		"it allows what it does not name": {DefaultAction: specs.ActAllow},
		"to an agent already":             {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActNotify}}},
	} {
		if _, err := profile.Watched(p, "/run/agent", false); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q", err, text)
		}
	}
	if _, err := profile.Watched(&specs.LinuxSeccomp{DefaultAction: specs.ActLog}, "/run/agent", false); !errors.Is(err, profile.ErrNothingToLearn) {
		t.Error(err)
	}
}

// What was learned allows the calls that were seen, under the conditions that there were, and nothing that was refused.
func TestLearned(t *testing.T) {
	a := seccomp.AMD64
	base := profile.Default(profile.Target{Arch: a})
	calls := append(seen(t, a, "mkdir", "clone", "socket"), profile.Seen{Arch: a, Number: 9999})
	l := profile.Learned(base, a, calls)
	if !slices.Equal(l.Architectures, []specs.Arch{specs.ArchX86_64}) {
		t.Error(l.Architectures)
	}
	before, after := compile(t, base, a), compile(t, l, a)
	for number := range uint32(500) {
		name, _ := a.Name(number)
		for _, x := range firsts {
			was, is := verdict(t, before, a, number, x), verdict(t, after, a, number, x)
			if is == allowed && was != allowed {
				t.Errorf("%s(%#x) was not allowed", name, x)
			}
			if slices.Contains([]string{"mkdir", "clone", "socket", "execve", "exit_group", "clone3"}, name) && is != was {
				t.Errorf("%s(%#x): %s, was %s", name, x, is, was)
			}
			if slices.Contains([]string{"mkdirat", "ptrace", "openat2", "personality", "connect"}, name) && is == allowed {
				t.Errorf("%s(%#x) is allowed and was not seen", name, x)
			}
		}
	}
	// The order does not count, nor that a call was made twice.
	slices.Reverse(calls)
	again := profile.Learned(base, a, append(calls, calls...))
	if diff := cmp.Diff(l, again); diff != "" {
		t.Error(diff)
	}
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := profile.Load(strings.NewReader(string(text)), profile.Target{Arch: a}); err != nil {
		t.Error(err)
	}
	both := profile.Learned(base, a, append(calls, seen(t, seccomp.I386, "mkdir")...))
	if !slices.Equal(both.Architectures, []specs.Arch{specs.ArchX86_64, specs.ArchX86}) {
		t.Errorf("with a 32-bit program: %v", both.Architectures)
	}
}

var childCall = regexp.MustCompile(`^\s+(?:then )?(?:\w+ = )?(\w+)\(`)

// What comes with a call sooner or later is allowed although it was not seen, and without that call it is not.
func TestLearnedAllowsWhatComesSooner(t *testing.T) {
	a := seccomp.AMD64
	base := profile.Default(profile.Target{Arch: a})
	for made, later := range map[string][]string{"epoll_create1": {"epoll_pwait", "epoll_ctl"}, "clone": {"tgkill", "nanosleep"}} {
		with, without := compile(t, profile.Learned(base, a, seen(t, a, "mkdir", made)), a), compile(t, profile.Learned(base, a, seen(t, a, "mkdir")), a)
		for _, name := range later {
			number, ok := a.Number(name)
			if !ok {
				t.Fatal(name)
			}
			if got := verdict(t, with, a, number); got != allowed {
				t.Errorf("%s after %s: %s", name, made, got)
			}
			if got := verdict(t, without, a, number); got == allowed {
				t.Errorf("%s is allowed without %s", name, made)
			}
		}
	}
}

// Whatever containr's own plans call once the filter holds, a profile allows that was learned from a
// program that called nothing.
func TestLearnedAllowsWhatContainrCallsUnderIt(t *testing.T) {
	a := seccomp.AMD64
	program := compile(t, profile.Learned(profile.Default(profile.Target{Arch: a}), a, nil), a)
	files, err := filepath.Glob("../../runtime/testdata/*.plan")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	checked := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, after, ok := strings.Cut(string(text), "seccomp(SECCOMP_SET_MODE_FILTER")
		if !ok {
			continue
		}
		child := false
		for line := range strings.Lines(after) {
			if who, _, isWhy := strings.Cut(strings.TrimSpace(line), ": "); isWhy && (who == "child" || who == "host") {
				child = who == "child"
				continue
			}
			m := childCall.FindStringSubmatch(line)
			if m == nil || !child {
				continue
			}
			number, ok := a.Number(m[1])
			if !ok {
				continue
			}
			checked++
			if got := verdict(t, program, a, number); got != allowed {
				t.Errorf("%s: %s: %s", file, m[1], got)
			}
		}
	}
	if checked == 0 {
		t.Error("no plan has a call after the filter")
	}
}
