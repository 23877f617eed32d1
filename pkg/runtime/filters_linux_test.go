package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
)

// keptIn writes a configuration, keeps its filter in a new state root, and returns the root, the configuration's file
// and the plan that was made without what was kept.
func keptIn(t *testing.T, spec *specs.Spec) (root, config string, p *plan.Plan) {
	t.Helper()
	root, config = t.TempDir(), filepath.Join(t.TempDir(), configFile)
	writeConfig(t, config, spec)
	f := filterStore{root: root}
	p = planOf(t, &f, config)
	if f.steps != nil {
		t.Fatal("a filter was there before one was kept")
	}
	if err := f.keep(p); err != nil {
		t.Fatal(err)
	}
	return root, config, p
}

func writeConfig(t *testing.T, path string, spec *specs.Spec) {
	t.Helper()
	text, err := json.MarshalIndent(spec, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, path, string(text), 0o644)
}

// planOf compiles a configuration with what a store has for it.
func planOf(t *testing.T, f *filterStore, config string) *plan.Plan {
	t.Helper()
	spec, _, err := f.load(config)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(Input{ID: "test", Spec: spec, Facts: paperFacts(host.CgroupV1, host.Kernel{Major: 6, Minor: 12}), Root: "/rootfs", Filter: f.steps})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// With a kept filter the plan is the same, and so is that of a further process, though the policy has not been read.
func TestKeptFilterMakesTheSamePlan(t *testing.T) {
	root, config, want := keptIn(t, fullSpec())
	f := filterStore{root: root}
	if got := planOf(t, &f, config); !reflect.DeepEqual(got, want) {
		t.Errorf("the plan with the kept filter is\n%+v\nand without it\n%+v", got, want)
	}
	if f.steps == nil {
		t.Fatal("the kept filter was not taken")
	}
	further := func(f *filterStore) *plan.Plan {
		spec, _, err := f.load(config)
		if err != nil {
			t.Fatal(err)
		}
		p, err := CompileExec(ExecInput{ID: "test", Target: 1, Spec: spec, Process: spec.Process, Facts: paperFacts(host.CgroupV1, host.Kernel{Major: 6, Minor: 12}), Filter: f.steps})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if got, want := further(&filterStore{root: root}), further(new(filterStore)); !reflect.DeepEqual(got, want) {
		t.Errorf("the plan of a further process with the kept filter is\n%+v\nand without it\n%+v", got, want)
	}
}

// What is not surely the filter of this policy, by this program, is not taken; the plan is made without it.
func TestDoubtfulFilterIsNotTaken(t *testing.T) {
	root, config, want := keptIn(t, fullSpec())
	files, err := filepath.Glob(filepath.Join(root, keptName+"*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("kept are %q, %v", files, err)
	}
	file := files[0]
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	byteChanged := func(i int) func(*testing.T) {
		return func(t *testing.T) {
			changed := []byte(string(text))
			changed[i] ^= 0x80
			testkit.WriteFile(t, file, string(changed), 0o600)
		}
	}
	doubts := map[string]func(*testing.T){
		"another kind of file": byteChanged(0),
		"another program":      byteChanged(len(keptMagic) + 9),
		"length of the policy": byteChanged(keptHeader - 16),
		"a very large policy":  byteChanged(keptHeader - 13),
		"length of the filter": byteChanged(keptHeader - 8),
		"another policy":       byteChanged(keptHeader + 100),
		"cut off":              func(t *testing.T) { testkit.WriteFile(t, file, string(text[:len(text)-8]), 0o600) },
		"cut off in its head":  func(t *testing.T) { testkit.WriteFile(t, file, string(text[:20]), 0o600) },
		"empty":                func(t *testing.T) { testkit.WriteFile(t, file, "", 0o600) },
		"others may write it": func(t *testing.T) {
			if err := os.Chmod(file, 0o622); err != nil {
				t.Fatal(err)
			}
		},
		"a link": func(t *testing.T) {
			testkit.WriteFile(t, file+".real", string(text), 0o600)
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(file+".real", file); err != nil {
				t.Fatal(err)
			}
		},
		"a directory": func(t *testing.T) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(file, 0o700); err != nil {
				t.Fatal(err)
			}
		},
	}
	if os.Geteuid() == 0 {
		doubts["another user's"] = func(t *testing.T) {
			if err := os.Chown(file, 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, doubt := range doubts {
		t.Run(name, func(t *testing.T) {
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
			testkit.WriteFile(t, file, string(text), 0o600)
			f := filterStore{root: root}
			planOf(t, &f, config)
			if f.steps == nil {
				t.Fatal("it is not taken as it was kept")
			}
			doubt(t)
			f = filterStore{root: root}
			if got := planOf(t, &f, config); !reflect.DeepEqual(got, want) || f.steps != nil {
				t.Errorf("it was taken: %v; the plan is\n%+v\nand has to be\n%+v", f.steps != nil, got, want)
			}
		})
	}
}

// A policy that differs in one letter has a filter of its own, though it goes to the same file.
func TestFilterOfAnotherPolicyIsNotTaken(t *testing.T) {
	root, config, _ := keptIn(t, fullSpec())
	other, changed := fullSpec(), false
	for _, rule := range other.Linux.Seccomp.Syscalls {
		if i := slices.Index(rule.Names, "mkdir"); i >= 0 {
			rule.Names[i], changed = "mkdis", true
		}
	}
	if !changed {
		t.Fatal("no rule has mkdir")
	}
	writeConfig(t, config, other)
	f := filterStore{root: root}
	got, want := planOf(t, &f, config), planOf(t, new(filterStore), config)
	if !reflect.DeepEqual(got, want) || f.steps != nil {
		t.Errorf("taken: %v; the plan is\n%+v\nand has to be\n%+v", f.steps != nil, got, want)
	}
}

// An object may have a member twice. What is read then is what is read without a store.
func TestPolicyThatIsThereTwice(t *testing.T) {
	root, config, _ := keptIn(t, fullSpec())
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	policy := string(text)[strings.Index(string(text), `"seccomp": {`):]
	policy = policy[:strings.LastIndex(policy, "]\n\t\t}")+len("]\n\t\t}")]
	for _, twice := range []string{`"seccomp": {"defaultAction": "SCMP_ACT_KILL"}, ` + policy, policy + `, "seccomp": {"syscalls": null}`,
		`"seccomp": null, ` + policy, policy + `, "seccomp": null`, policy + ", " + policy} {
		if strings.Count(string(text), policy) != 1 {
			t.Fatalf("the policy was not found in\n%s", text)
		}
		testkit.WriteFile(t, config, strings.Replace(string(text), policy, twice, 1), 0o644)
		f := filterStore{root: root}
		got, want := planOf(t, &f, config), planOf(t, new(filterStore), config)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("with %.60s... %.40s the plan is\n%+v\nand has to be\n%+v", twice, twice[len(twice)-40:], got, want)
		}
	}
}

// A filter that asks an agent is not kept, nor one whose flags not every kernel has.
func TestFilterThatDependsIsNotKept(t *testing.T) {
	spec := fullSpec()
	spec.Linux.Seccomp = notifyPolicy("/run/agent")
	root, _, _ := keptIn(t, spec)
	if files, err := os.ReadDir(root); err != nil || len(files) != 0 {
		t.Errorf("kept are %v, %v", files, err)
	}
}

// A state root has a bounded number of filters, and what a killed runtime leaves does not keep others from it for ever.
func TestKeptFiltersAreBounded(t *testing.T) {
	root := t.TempDir()
	config := filepath.Join(t.TempDir(), configFile)
	for n := range 3 * keptFilters {
		spec := fullSpec()
		spec.Linux.Seccomp.Syscalls[0].Names = append(spec.Linux.Seccomp.Syscalls[0].Names, strings.Repeat("x", n+1))
		writeConfig(t, config, spec)
		for range 2 {
			f := filterStore{root: root}
			if err := f.keep(planOf(t, &f, config)); err != nil {
				t.Fatal(err)
			}
		}
		f := filterStore{root: root}
		if planOf(t, &f, config); f.steps == nil {
			t.Errorf("the filter of policy %d was not taken", n)
		}
	}
	if files, err := os.ReadDir(root); err != nil || len(files) != keptFilters {
		t.Errorf("%d files, %v: %v", len(files), err, files)
	}
	path := filepath.Join(root, "file")
	testkit.WriteFile(t, path+newSuffix, "half", 0o600)
	if err := replace(path, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it was made while another seems to make it: %v", err)
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path+newSuffix, long, long); err != nil {
		t.Fatal(err)
	}
	for range 2 { // one removes what was left, the next makes the file
		if err := replace(path, []byte("whole")); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "whole" {
		t.Errorf("%q, %v", text, err)
	}
}
