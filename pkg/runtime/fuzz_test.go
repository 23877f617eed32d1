package runtime

import (
	"strings"
	"testing"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
)

// Whatever a configuration says, it is refused, or compiled to a plan that keeps the
// rules and can be lowered; and so is exec in such a container.
func FuzzCompile(f *testing.F) {
	for _, text := range scenes {
		f.Add(text)
	}
	facts := append(sceneFacts(), paperFacts(host.NoCgroup, host.Kernel{Major: 5, Minor: 10}))
	f.Fuzz(func(t *testing.T, text string) {
		spec := exampleSpec("/bin/sh")
		if err := quickjson.Decode(text, spec); err != nil {
			t.Skip("not a configuration")
		}
		for _, f := range facts {
			in := Input{ID: "id", Root: "/rootfs", Bundle: "/bundle", Spec: spec, Facts: f, Resctrl: host.Resctrl{Path: "/r"},
				Links: map[string]host.Link{"eth0": {Index: 1}}, Sources: paperDevices()}
			p, err := Compile(in)
			if err != nil {
				continue
			}
			checkPlan(t, p)
			if e, err := CompileExec(ExecInput{ID: "id", Target: 1, Spec: spec, Process: spec.Process, Facts: f, Root: "/rootfs"}); err == nil {
				checkPlan(t, e)
			}
			for i := range p.Steps {
				checkHook(t, &in, &p.Steps[i])
			}
		}
	})
}

func checkPlan(t *testing.T, p *plan.Plan) {
	t.Helper()
	if err := p.Validate("sync", "console", "held", "ear", "bell"); err != nil {
		t.Error(err)
	}
	o := child.Options{Arch: "amd64", Values: fromOutside(p), FirstFD: 3}
	if _, err := child.Lower(p, o); err != nil && !strings.Contains(err.Error(), "zero byte") {
		t.Error(err)
	}
}

// checkHook compiles the plan of a hook in the container's namespaces.
func checkHook(t *testing.T, in *Input, s *plan.Step) {
	t.Helper()
	if h, ok := hookIn(s); ok && h.Inside {
		p, err := compileHook(hookInput{ExecInput: ExecInput{ID: "id", Target: 1, Spec: in.Spec, Facts: in.Facts}, Hook: h})
		if err != nil {
			t.Error(err)
			return
		}
		checkPlan(t, p)
	}
}
