package child

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

var update = flag.Bool("update", false, "write the golden files anew")

// samplePlan has one of everything that lowering knows: a keeper, a baton, a group,
// registers in arguments and in structures.
func samplePlan() *plan.Plan {
	b := plan.Build(plan.Host, plan.CgroupChapter)
	b.Do("a control group", linux.MakeDir{Path: "/sys/fs/cgroup/x", Mode: 0o755}).Reverse(linux.RemoveDir{Path: "/sys/fs/cgroup/x"})
	b.In(plan.NamespaceChapter).Do("the network to share", linux.OpenHost{Path: "/run/net", Flags: linux.OCloexec}).As("ns_0")
	b.By(plan.Keeper).Do("the container is born", linux.Clone{Flags: linux.CloneNewns | linux.CloneParent, Cgroup: "dir"}).As("pid")
	b.Do("the host learns its process id", linux.WriteReg{FD: linux.FD(Sync), Value: "pid"})
	b.By(plan.Child).Do("share the network", linux.Setns{FD: "ns_0", Flags: linux.CloneNewnet})
	b.Do("its own control group", linux.OpenTree{Dir: linux.CWD, Path: "/sys/fs/cgroup/x", Flags: linux.OpenTreeClone}).As("tree")
	b.Do("a place for it", linux.Openat{Dir: linux.CWD, Path: "/a", Flags: linux.ODirectory}).As("at").Ok(plan.ENOENT)
	b.Do("it was there", linux.Fchdir{FD: "at"}).Then()
	b.Do("it was not there", linux.Mkdirat{Dir: linux.CWD, Path: "/a", Mode: 0o755}).Else().Ok(plan.EEXIST)
	b.Do("mounted", linux.MoveMount{From: "tree", To: "at"})
	b.By(plan.Host).Do("limits hold", linux.Attach{Path: "/sys/fs/cgroup/x/cgroup.procs", PID: "pid"})
	b.By(plan.Child).In(plan.TerminalChapter).Do("the master end goes to the host", linux.SendFD{Socket: "console", FD: "tty", Data: "x"})
	b.In(plan.PrivilegeChapter).Do("the user", linux.Setresuid{UID: 1000})
	b.Do("nothing stays open", linux.CloseRange{First: 4})
	b.Do("ready", linux.Write{FD: linux.FD(Sync), Data: MessageReady})
	b.Do("become the program", linux.Execve{Path: "/bin/sh", Args: []string{"sh"}})
	b.By(plan.Keeper).Do("wait for its end", linux.Wait4{Status: "status"}).As("ended").Ok(plan.ECHILD)
	b.Do("it goes on", linux.PtraceDetach{PID: "ended"}).Again().Try()
	b.Do("done", linux.ExitGroup{})
	return &plan.Plan{Steps: b.Steps}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run make golden and look at the difference:\n%s", name, got)
	}
}

func TestWords(t *testing.T) {
	p := samplePlan()
	for _, arch := range []linux.Arch{linux.AMD64, linux.ARM64} {
		prog, err := Lower(p, Options{Arch: arch, FirstFD: 3, Values: map[plan.Reg]int{"ns_0": 7, "dir": 8, "console": 9}})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := prog.WriteWords(&b, p); err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/words."+string(arch), b.Bytes())
	}
}

func TestStandalone(t *testing.T) {
	p := samplePlan()
	alone, omitted, err := Standalone(p)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := alone.Write(&b, plan.Steps); err != nil {
		t.Fatal(err)
	}
	b.WriteString("\nomitted:\n")
	for i := range omitted {
		b.WriteString(omitted[i].Why + ": " + omitted[i].String() + "\n")
	}
	golden(t, "testdata/standalone", b.Bytes())
}

func TestStandaloneRefuses(t *testing.T) {
	for name, change := range map[string]func(b *plan.Builder){
		"no clone":        func(b *plan.Builder) { b.Do("w", linux.MakeDir{}) },
		"two clones":      func(b *plan.Builder) { b.Do("w", linux.Clone{}); b.Do("w", linux.Clone{}) },
		"joins a process": func(b *plan.Builder) { b.Do("w", linux.OpenPidfd{PID: 1}); b.Do("w", linux.Clone{}) },
		"needs newuidmap": func(b *plan.Builder) {
			b.Do("w", linux.Clone{})
			b.Do("w", linux.MapIDs{Program: "/usr/bin/newuidmap"})
		},
	} {
		b := plan.Build(plan.Host, plan.NamespaceChapter)
		change(b)
		if _, _, err := Standalone(&plan.Plan{Steps: b.Steps}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// simulateAlone runs the program of the sample without a kernel, as parent or as child,
// and returns the system calls that it made and what it exited with.
func simulateAlone(t *testing.T, born int64, siginfo uint64) ([]string, uint64) {
	t.Helper()
	alone, _, err := Standalone(samplePlan())
	if err != nil {
		t.Fatal(err)
	}
	prog, err := Lower(alone, Options{Arch: linux.AMD64, FirstFD: 3, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	code := uint64(0)
	kernel := func(nr uint32, args [6]uint64, mem []byte) int64 {
		name := linux.SyscallName(nr, linux.AMD64)
		calls = append(calls, name)
		switch name {
		case "clone3":
			return born
		case "waitid":
			const status = 24
			binary.LittleEndian.PutUint32(mem[args[2]-dataBase+status:], uint32(siginfo))
		case "exit_group":
			code = args[0]
		}
		return 0
	}
	stop := func(nr uint32, result int64) bool {
		name := linux.SyscallName(nr, linux.AMD64)
		return name == "exit_group" || name == "execve"
	}
	if _, err := prog.Simulate(kernel, stop); err != nil {
		t.Fatal(err)
	}
	return calls, code
}

func TestStandaloneParentAndChild(t *testing.T) {
	for _, status := range []uint64{0, 7, 255} {
		calls, code := simulateAlone(t, 42, status)
		if want := []string{"openat", "clone3", "waitid", "exit_group"}; !slices.Equal(calls, want) {
			t.Errorf("the parent calls %v, want %v", calls, want)
		}
		if code != status {
			t.Errorf("exit code %d, want %d", code, status)
		}
	}
	calls, _ := simulateAlone(t, 0, 0)
	if last := calls[len(calls)-1]; last != "execve" || slices.Contains(calls, "waitid") {
		t.Errorf("the child calls %v", calls)
	}
}

// The file is well-formed for both architectures: a loader that is not ours reads it.
func TestELFIsWellFormed(t *testing.T) {
	alone, _, err := Standalone(samplePlan())
	if err != nil {
		t.Fatal(err)
	}
	for arch, machine := range map[linux.Arch]elf.Machine{linux.AMD64: elf.EM_X86_64, linux.ARM64: elf.EM_AARCH64} {
		prog, err := Lower(alone, Options{Arch: arch, FirstFD: 3, Alone: true})
		if err != nil {
			t.Fatal(err)
		}
		code := []byte("the interpreter's code")
		image, err := prog.ELF(code)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		if f.Machine != machine || f.Type != elf.ET_EXEC || f.Class != elf.ELFCLASS64 {
			t.Errorf("%s: machine %v, type %v, class %v", arch, f.Machine, f.Type, f.Class)
		}
		var loaded, flags []string
		for _, p := range f.Progs {
			flags = append(flags, p.Type.String()+" "+p.Flags.String())
			if p.Type != elf.PT_LOAD {
				continue
			}
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				t.Errorf("%s: segment at %#x: %v", arch, p.Vaddr, err)
			}
			if f.Entry >= p.Vaddr && f.Entry < p.Vaddr+p.Memsz {
				loaded = append(loaded, "entry")
				if !bytes.Contains(b[f.Entry-p.Vaddr:], code) {
					t.Errorf("%s: the interpreter is not behind the entry", arch)
				}
			}
			if p.Vaddr == dataBase && !bytes.Equal(b, prog.Data) {
				t.Errorf("%s: the data is not what was lowered", arch)
			}
		}
		if !slices.Equal(loaded, []string{"entry"}) {
			t.Errorf("%s: the entry %#x is in %d segments", arch, f.Entry, len(loaded))
		}
		if want := []string{"PT_LOAD PF_X+PF_R", "PT_LOAD PF_W+PF_R", "PT_GNU_STACK PF_W+PF_R"}; !slices.Equal(flags, want) {
			t.Errorf("%s: segments %v, want %v", arch, flags, want)
		}
	}
}
