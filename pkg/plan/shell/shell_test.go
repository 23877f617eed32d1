package shell

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

var update = flag.Bool("update", false, "write the golden files anew")

// samplePlan is a small container with one of most things.
func samplePlan(change func(b *plan.Builder)) *plan.Plan {
	b := plan.Build(plan.Host, plan.CgroupChapter)
	b.Do("a control group", linux.MakeDir{Path: "/sys/fs/cgroup/x", Mode: 0o755}).Reverse(linux.RemoveDir{Path: "/sys/fs/cgroup/x"})
	b.Do("limit memory", linux.WriteFile{Path: "/sys/fs/cgroup/x/memory.max", Data: "1000"}).Ok(plan.ENOENT)
	b.In(plan.NamespaceChapter).Do("born", linux.Clone{Flags: linux.CloneNewns | linux.CloneNewpid | linux.CloneNewuts}).As("pid")
	b.Do("limits hold", linux.Attach{Path: "/sys/fs/cgroup/x/cgroup.procs", PID: "pid"}).Early()
	b.By(plan.Child).Do("a session of its own", linux.Setsid{})
	b.In(plan.RootfsChapter).Do("mounts stay here", linux.Mount{Target: "/", Flags: linux.MsSlave | linux.MsRec})
	b.Do("the root file system", linux.OpenTree{Dir: linux.CWD, Path: "/it's a root", Flags: linux.OpenTreeClone | linux.AtRecursive}).As("root")
	b.Do("a place for it", linux.Openat{Dir: linux.CWD, Path: "/it's a root", Flags: linux.OPath}).As("place")
	b.Do("a place for it", linux.MoveMount{From: "root", To: "place"})
	b.Do("a new tmpfs", linux.Fsopen{Type: "tmpfs"}).As("fs")
	b.Do("a new tmpfs", linux.Fsconfig{FS: "fs", Command: linux.FsconfigSetString, Key: "mode", Value: "755"})
	b.Do("a new tmpfs", linux.Fsconfig{FS: "fs", Command: linux.FsconfigCreate})
	b.Do("a new tmpfs", linux.Fsmount{FS: "fs", Attrs: linux.AttrReadonly | linux.AttrNosuid}).As("mnt1")
	b.Do("where /dev is", linux.Openat2{Dir: "root", Path: "dev", Flags: linux.OPath, Resolve: linux.ResolveInRoot}).As("at").Ok(plan.ENOENT)
	b.Do("made", linux.Mkdirat{Dir: "root", Path: "dev", Mode: 0o755}).Else().Ok(plan.EEXIST)
	b.Do("made", linux.Openat2{Dir: "root", Path: "dev", Flags: linux.OPath, Resolve: linux.ResolveInRoot}).Else().As("at")
	b.Do("at /dev", linux.MoveMount{From: "mnt1", To: "at"})
	b.Do("a device", linux.Mknodat{Dir: "mnt1", Path: "null", Mode: typeChar | 0o666, Major: 1, Minor: 3})
	change(b)
	b.Do("the new root", linux.Fchdir{FD: "root"})
	b.Do("the new root", linux.PivotRoot{NewRoot: ".", PutOld: "."})
	b.Do("the old one goes", linux.Umount{Target: ".", Flags: linux.MntDetach})
	b.Do("from inside", linux.Chdir{Path: "/"})
	b.Do("nothing stays open", linux.CloseRange{First: 4})
	b.In(plan.PrivilegeChapter).Do("never again", linux.Prctl{Option: linux.PrCapbsetDrop, Arg2: 21})
	b.Do("the group", linux.Setresgid{GID: 1000})
	b.Do("the user", linux.Setresuid{UID: 1000})
	b.In(plan.ProgramChapter).Do("is it there?", linux.Faccessat{Dir: linux.CWD, Path: "/bin/x", Mode: linux.XOK})
	b.Do("become the program", linux.Execve{Path: "/bin/x", Args: []string{"x", "it's"}, Env: []string{"A=$b", "odd.name=1", "UID=2", "RANDOM=4"}})
	return &plan.Plan{Steps: b.Steps}
}

func TestScriptGolden(t *testing.T) {
	got, err := Script(samplePlan(func(*plan.Builder) {}), Options{Name: "sample"})
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/sample.sh"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run make golden and look at the difference:\n%s", golden, got)
	}
}

// What a script cannot do is an error: left out silently, it would be another container.
func TestScriptRefuses(t *testing.T) {
	for name, change := range map[string]func(b *plan.Builder){
		"an unknown call":     func(b *plan.Builder) { b.Do("w", linux.ExitGroup{}) },
		"an unknown register": func(b *plan.Builder) { b.Do("w", linux.Mkdirat{Dir: "nowhere", Path: "x"}) },
		"an id-mapped mount":  func(b *plan.Builder) { b.Do("w", linux.MountSetattr{Dir: "mnt1", UserNS: "ns"}) },
		"a moved mount":       func(b *plan.Builder) { b.Do("w", linux.Mount{Source: ".", Target: "/", Flags: linux.MsMove}) },
		"a mount of no kind":  func(b *plan.Builder) { b.Do("w", linux.Mount{Source: "x", Target: "/x"}) },
		"chroot":              func(b *plan.Builder) { b.Do("w", linux.Chroot{Path: "."}) },
		"an option with a comma": func(b *plan.Builder) {
			b.Do("w", linux.Fsconfig{FS: "fs", Command: linux.FsconfigSetString, Key: "a", Value: "b,c"})
		},
		"a write to anywhere":  func(b *plan.Builder) { b.Do("w", linux.Write{FD: "mnt1", Data: "x"}) },
		"a read of anything":   func(b *plan.Builder) { b.Do("w", linux.Read{FD: "mnt1"}) },
		"a second process":     func(b *plan.Builder) { b.Do("w", linux.Clone{}) },
		"several namespaces":   func(b *plan.Builder) { b.Do("w", linux.Unshare{Flags: linux.CloneNewns}) },
		"an unknown namespace": func(b *plan.Builder) { b.Do("w", linux.Setns{FD: "mnt1", Flags: linux.CloneNewnet}) },
		"an odd register": func(b *plan.Builder) {
			b.Do("w", linux.Openat2{Dir: "root", Path: "x", Resolve: linux.ResolveInRoot}).As("a b")
		},
		"an odd interface":        func(b *plan.Builder) { b.Do("w", linux.LinkUp{Socket: "s", Interface: "a'b"}) },
		"an unknown resource":     func(b *plan.Builder) { b.Do("w", linux.Prlimit{Resource: 99}) },
		"an unknown prctl":        func(b *plan.Builder) { b.Do("w", linux.Prctl{Option: linux.PrSetName}) },
		"an unknown persona":      func(b *plan.Builder) { b.Do("w", linux.Personality{Persona: 3}) },
		"a zero byte":             func(b *plan.Builder) { b.Do("w", linux.Mkdirat{Dir: "root", Path: "a\x00b"}) },
		"a group without command": func(b *plan.Builder) { b.Do("w", linux.Setsid{}); b.Do("w", linux.Umask{}).Then() },
		"an early execution":      func(b *plan.Builder) { b.Do("w", linux.Execve{Path: "/x", Args: []string{"x"}}) },
		"a file system in between": func(b *plan.Builder) {
			b.Do("w", linux.Fsmount{FS: "mnt1"}).As("m")
			b.Do("w", linux.Fsmount{FS: "what"})
		},
	} {
		if text, err := Script(samplePlan(change), Options{}); !errors.Is(err, ErrCannot) {
			t.Errorf("%s: error %v\n%s", name, err, text)
		}
	}
	for name, p := range map[string]*plan.Plan{
		"nothing":  {},
		"no birth": {Steps: samplePlan(func(*plan.Builder) {}).Steps[:2]},
		"no end":   {Steps: samplePlan(func(*plan.Builder) {}).Steps[:8]},
	} {
		if _, err := Script(p, Options{}); !errors.Is(err, ErrCannot) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// A plan is not changed by being shown.
func TestScriptIsPure(t *testing.T) {
	p := samplePlan(func(*plan.Builder) {})
	first, err := Script(p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if second, err := Script(p, Options{}); err != nil || first != second {
		t.Errorf("the second script is another one (%v)", err)
	}
}

// A reason cannot end its comment.
func TestRemarkStaysOnItsLine(t *testing.T) {
	p := samplePlan(func(b *plan.Builder) {
		b.Do("share /x\nrm -rf / # \r\x1b[2J\u2028", linux.Umask{})
	})
	text, err := Script(p, Options{Name: "a\nb"})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "rm -rf") || line == "b by hand, with the tools of util-linux. To be run by root.\n" {
			t.Errorf("a comment has become a command: %q", line)
		}
	}
	if strings.ContainsAny(text, "\r\x1b\u2028") {
		t.Error("control characters reach the terminal")
	}
}
