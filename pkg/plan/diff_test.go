package plan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// container is a small plan with an id in it.
func container(id string, change func(b *plan.Builder)) *plan.Plan {
	b := plan.Build(plan.Host, plan.CgroupChapter)
	b.Do("a control group", linux.MakeDir{Path: "/cg/" + id}).Reverse(linux.RemoveDir{Path: "/cg/" + id})
	b.Do("limit memory", linux.WriteFile{Path: "/cg/" + id + "/memory.max", Data: "1000"}).For("/linux/resources/memory/limit")
	b.By(plan.Child).In(plan.RootfsChapter)
	for _, name := range []string{"proc", "sys", "dev"} {
		b.Do("a new "+name, linux.Mkdirat{Dir: "root", Path: name, Mode: 0o755}).For("/mounts/" + name)
	}
	change(b)
	b.In(plan.ProgramChapter).Do("become the program", linux.Execve{Path: "/bin/sh", Args: []string{"sh"},
		Env: []string{"ID=" + id, "A=" + strings.Repeat("long ", 40)}})
	return &plan.Plan{Steps: b.Steps}
}

func diff(t *testing.T, a, b *plan.Plan, o plan.DiffOptions) string {
	t.Helper()
	var out strings.Builder
	if err := plan.WriteDiff(&out, a, b, o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestDiffOfTheSame(t *testing.T) {
	nothing := func(*plan.Builder) {}
	a := container("one", nothing)
	const none = "0 steps changed, 0 steps only in the first, 0 steps only in the second\n"
	if got := diff(t, a, container("one", nothing), plan.DiffOptions{}); got != none {
		t.Errorf("got %s", got)
	}
	same := plan.DiffOptions{Same: []plan.Alias{{A: "one", B: "another"}}}
	if got := diff(t, a, container("another", nothing), same); got != none {
		t.Errorf("ids that stand for each other: %s", got)
	}
	if got := plan.Diff(a, container("another", nothing), plan.DiffOptions{}); len(got) != 3 {
		t.Errorf("other ids: %v", got)
	}
	// One alias is a part of the other, on one side only.
	nested := plan.DiffOptions{Same: []plan.Alias{{A: "o", B: "xx"}, {A: "one", B: "x"}}}
	b := container("x", nothing)
	if got := plan.Diff(container("one", nothing), b, nested); len(got) == 0 {
		t.Error("an alias of a part swallows other texts")
	}
}

func TestDiffExplains(t *testing.T) {
	a := container("one", func(b *plan.Builder) {
		b.Do("cover", linux.Mkdirat{Dir: "root", Path: "old", Mode: 0o700})
		b.Do("a filter", linux.Seccomp{Filter: "12345678"})
	})
	b := container("one", func(b *plan.Builder) {
		b.Do("a new mount", linux.Fsopen{Type: "tmpfs"}).As("fs").For("/mounts/3")
		b.Do("cover", linux.Mkdirat{Dir: "root", Path: "old", Mode: 0o755}).Ok(plan.EEXIST)
		b.Do("a filter", linux.Seccomp{Filter: "12345679"})
	})
	b.Steps = slices.Delete(b.Steps, 3, 4)
	b.Steps[1].Call = linux.WriteFile{Path: "/cg/one/memory.max", Data: "2000"}
	last := &b.Steps[len(b.Steps)-1]
	e := last.Call.(linux.Execve)
	e.Env = append([]string{"B=new"}, e.Env[1:]...)
	last.Call = e
	const want = `# cgroup
  host: limit memory (/linux/resources/memory/limit)
  - echo 1000 > /cg/one/memory.max
  + echo 2000 > /cg/one/memory.max
# root file system
  child: a new sys (/mounts/sys)
  - mkdirat(root, "sys", 0755)
  child: a new mount (/mounts/3)
  + fs = fsopen("tmpfs", FSOPEN_CLOEXEC)
  child: cover
  - mkdirat(root, "old", 0700)
  + mkdirat(root, "old", 0755) or EEXIST
  child: a filter
  ~ seccomp
      argument 3.2: [8 bytes] that are others
# program
  child: become the program
  ~ execve
      - argument 3: "ID=one"
      + argument 3: "B=new"
4 steps changed, 1 step only in the first, 1 step only in the second
`
	if got := diff(t, a, b, plan.DiffOptions{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Every step is either the same in both plans or in exactly one difference, and what
// is not in a difference is the same, in the same order.
func TestDiffAccountsForEveryStep(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	random := func() *plan.Plan {
		b := plan.Build(plan.Child, plan.RootfsChapter)
		for range r.IntN(12) {
			b.Do(fmt.Sprint("why ", r.IntN(2)), linux.Umask{Mask: uint32(r.IntN(4))})
		}
		return &plan.Plan{Steps: b.Steps}
	}
	for range 2000 {
		a, b := random(), random()
		inA, inB := map[int]bool{}, map[int]bool{}
		for _, c := range plan.Diff(a, b, plan.DiffOptions{}) {
			if c.A < 0 && c.B < 0 || inA[c.A] && c.A >= 0 || inB[c.B] && c.B >= 0 {
				t.Fatalf("difference %+v twice or empty", c)
			}
			inA[c.A], inB[c.B] = true, true
		}
		rest := func(p *plan.Plan, changed map[int]bool) (out []string) {
			for i := range p.Steps {
				if !changed[i] {
					out = append(out, p.Steps[i].Why+p.Steps[i].String())
				}
			}
			return out
		}
		if x, y := rest(a, inA), rest(b, inB); !slices.Equal(x, y) {
			t.Fatalf("what is left differs: %q, %q", x, y)
		}
	}
}
