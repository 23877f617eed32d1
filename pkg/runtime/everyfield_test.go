package runtime

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
)

// Every field of the configuration has a consequence: a change of it changes the plan,
// or is refused. Nothing that a configuration asks for is passed over in silence, and
// a field that a new version of the specification brings fails this test until
// somebody has decided about it: here, with an example in scenes that shows its
// consequence, or in withoutConsequence with the reason.
func TestEveryFieldHasAConsequence(t *testing.T) {
	felt := map[string]bool{}
	for name, text := range scenes {
		feel(t, name, text, felt)
	}
	for _, path := range leaves(reflect.TypeFor[specs.Spec](), "") {
		reason, excused := withoutConsequence[path]
		switch {
		case felt[path] && excused:
			t.Errorf("%s has a consequence, but is listed as without: %s", path, reason)
		case !felt[path] && !excused:
			t.Errorf("%s has no consequence: neither does it change a plan, nor is it refused", path)
		}
	}
}

// withoutConsequence are the fields that a plan does not depend on, and why.
var withoutConsequence = map[string]string{
	"/ociVersion":            "what is asked for is told by the other fields; state tells the version of ours",
	"/process/user/username": "a user's name on Windows",
	"/process/commandLine":   "a program's command line on Windows",
	"/linux/resources/memory/useHierarchy": "a group counts for those below it on every kernel that containr runs on: " +
		"version 2 knows nothing else, and so does version 1 since Linux 5.11",
	"/linux/resources/memory/checkBeforeUpdate": "it is about a change of limits; here they are new",
	"/linux/resources/memory/kernel":            "the kernel has no such limit since Linux 5.16, and memory.limit counts the kernel's memory",
}

// scenes are what is merged into the example, each a configuration by itself.
var scenes = map[string]string{
	"plain": `{}`,
	"process": `{"process": {"terminal": true, "consoleSize": {"height": 1, "width": 2}, "cwd": "/a", "env": ["A=1"], "args": ["a", "b"],
		"user": {"uid": 1, "gid": 1, "umask": 1, "additionalGids": [1]}, "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 2, "soft": 1}],
		"oomScoreAdj": 1, "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1}, "execCPUAffinity": {"initial": "0", "final": "0"},
		"capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}}}`,
	"scheduler": `{"process": {"scheduler": {"policy": "SCHED_FIFO", "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}}}`,
	"deadline":  `{"process": {"scheduler": {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 1, "period": 1}}}`,
	"hooks": `{"annotations": {"a": "b"}, "hooks": {"prestart": [` + sceneHook + `], "createRuntime": [` + sceneHook + `], "createContainer": [` + sceneHook + `],
		"startContainer": [` + sceneHook + `], "poststart": [` + sceneHook + `], "poststop": [` + sceneHook + `]}}`,
	"linux": `{"linux": {"sysctl": {"net.a": "1"}, "cgroupsPath": "/a", "rootfsPropagation": "private", "personality": {"domain": "LINUX32"},
		"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "netDevices": {"eth0": {"name": "a"}},
		"devices": [{"path": "/dev/a", "type": "c", "major": 1, "minor": 1, "fileMode": 384, "uid": 1, "gid": 1}],
		"intelRdt": {"l3CacheSchema": "L3:0=1", "memBwSchema": "MB:0=1", "schemata": ["L2:0=1"]}}}`,
	"class": `{"linux": {"intelRdt": {"closID": "a", "l3CacheSchema": "L3:0=1"}}}`,
	"time":  `{"linux": {"namespaces": [{"type": "mount"}, {"type": "time"}], "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 1}}}, "hostname": ""}`,
	"user": `{"linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network", "path": "/a"}, {"type": "user"}],
		"uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}], "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}}`,
	"mounts": `{"mounts": [{"destination": "/a", "type": "tmpfs", "source": "a", "options": ["size=1m"]}]}`,
	"mapped": `{"mounts": [{"destination": "/b", "type": "bind", "source": "/srv", "options": ["bind"],
		"uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}], "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}]}`,
	"seccomp": `{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
		"listenerPath": "/a", "listenerMetadata": "a", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"},
		{"names": ["open"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2, "args": [{"index": 1, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}]}}}`,
	"seccomp, first": `{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["open"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2,
		"args": [{"index": 1, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}]}}}`,
	"memory":   `{"linux": {"resources": {"memory": {"limit": 4096, "reservation": 4096, "swap": 8192, "swappiness": 1, "disableOOMKiller": false}}}}`,
	"cpu":      `{"linux": {"resources": {"pids": {"limit": 1}, "cpu": {"shares": 2, "quota": 2000, "burst": 1, "period": 2000, "cpus": "0", "mems": "0"}}}}`,
	"realtime": `{"linux": {"resources": {"cpu": {"realtimeRuntime": 1, "realtimePeriod": 2}}}}`,
	"idle":     `{"linux": {"resources": {"cpu": {"idle": 0}}}}`,
	"io": `{"linux": {"resources": {"blockIO": {"weight": 10, "weightDevice": [{"major": 1, "minor": 1, "weight": 10}],
		"throttleReadBpsDevice": [` + sceneThrottle + `], "throttleWriteBpsDevice": [` + sceneThrottle + `],
		"throttleReadIOPSDevice": [` + sceneThrottle + `], "throttleWriteIOPSDevice": [` + sceneThrottle + `]}}}}`,
	"others": `{"linux": {"resources": {"devices": [{"allow": true, "type": "c", "major": 1, "minor": 1, "access": "r"}],
		"hugepageLimits": [{"pageSize": "2MB", "limit": 1}], "rdma": {"a": {"hcaHandles": 1, "hcaObjects": 1}}}}}`,
	"network": `{"linux": {"resources": {"network": {"classID": 1, "priorities": [{"name": "a", "priority": 1}]}}}}`,
	"unified": `{"linux": {"resources": {"unified": {"memory.max": "1"}}}}`,
}

const (
	sceneHook     = `{"path": "/a", "args": ["a"], "env": ["A=1"], "timeout": 1}`
	sceneThrottle = `{"major": 1, "minor": 1, "rate": 1}`
)

// sceneFacts are the machines that plans are made for.
func sceneFacts() []*host.Facts {
	one, two := paperFacts(host.CgroupV1, host.Kernel{Major: 6, Minor: 12}), paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12})
	for _, name := range []string{"hugetlb", "rdma", "blkio", "cpu", "net_cls", "net_prio"} {
		one.Hierarchies = append(one.Hierarchies, host.Hierarchy{Controllers: []string{name}, Path: "/sys/fs/cgroup/" + name, Own: "/"})
	}
	two.Hierarchies[0].Controllers = append(slices.Clone(two.Hierarchies[0].Controllers), "hugetlb", "rdma", "cpuset")
	labelled := *two
	labelled.SELinux, labelled.AppArmor = true, true
	return []*host.Facts{one, two, &labelled}
}

// outcome is the plan as text, or the refusal.
func outcome(spec *specs.Spec, f *host.Facts) string {
	sources := paperDevices()
	sources["/srv"] = host.Source{Kind: host.Directory}
	p, err := Compile(Input{ID: "id", Root: "/" + spec.Root.Path, Bundle: "/bundle", Spec: spec, Facts: f, Resctrl: host.Resctrl{Path: "/r"},
		Links: map[string]host.Link{"eth0": {Index: 1}}, Sources: sources})
	if err == nil {
		err = p.Validate("sync", "console", "held", "ear", "bell")
	}
	if err != nil {
		return "refused: " + err.Error()
	}
	var b strings.Builder
	for i := range p.Steps {
		b.WriteString(p.Steps[i].String())
		describe(&b, p.Steps[i].Call.AppendArgs(nil))
		b.WriteString("\n")
	}
	// What concerns a further process only is in no other plan.
	e, err := CompileExec(ExecInput{ID: "id", Target: 1, Spec: spec, Process: spec.Process, Facts: f, Bundle: "/bundle"})
	if err != nil {
		return b.String() + "exec: " + err.Error()
	}
	for i := range e.Steps {
		b.WriteString(e.Steps[i].String() + "\n")
	}
	return b.String()
}

// describe writes all of the arguments, which String abbreviates.
func describe(b *strings.Builder, args []plan.Arg) {
	for _, a := range args {
		b.WriteString(" " + a.Text + strings.Join(a.Words, " "))
		describe(b, a.List)
	}
}

// feel changes each field that is there in a scene, one after the other, and notes
// those whose change is felt on any machine.
func feel(t *testing.T, name, text string, felt map[string]bool) {
	t.Helper()
	base := sceneSpec(t, name, text)
	facts := sceneFacts()
	before := make([]string, len(facts))
	whole := false
	for i, f := range facts {
		before[i] = outcome(base, f)
		whole = whole || !strings.HasPrefix(before[i], "refused: ")
	}
	if !whole {
		t.Errorf("scene %s: %v", name, before)
	}
	visit(reflect.ValueOf(base).Elem(), "", func(path string, change func() (undo func())) {
		undo := change()
		defer undo()
		for i, f := range facts {
			felt[path] = felt[path] || outcome(base, f) != before[i]
		}
	})
}

func sceneSpec(t *testing.T, name, text string) *specs.Spec {
	t.Helper()
	spec := exampleSpec("/bin/sh")
	if err := json.Unmarshal([]byte(text), spec); err != nil {
		t.Fatalf("scene %s: %v", name, err)
	}
	return spec
}

// member is the name of a struct's field in a path; embedded structs have none.
func member(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return ""
	}
	return "/" + name
}

// leaves lists the paths of all values that a configuration can hold. What belongs to
// other systems is one leaf: it is refused as a whole.
func leaves(t reflect.Type, path string) []string {
	switch t.Kind() {
	case reflect.Pointer:
		return leaves(t.Elem(), path)
	case reflect.Slice:
		return leaves(t.Elem(), path+"[]")
	case reflect.Map:
		return append(leaves(t.Elem(), path+"{}"), path+"{key}")
	case reflect.Struct:
		var list []string
		for i := range t.NumField() {
			f := t.Field(i)
			if foreign(path + member(f)) {
				list = append(list, path+member(f))
				continue
			}
			list = append(list, leaves(f.Type, path+member(f))...)
		}
		return list
	}
	return []string{path}
}

func foreign(path string) bool {
	return slices.Contains([]string{"/solaris", "/windows", "/vm", "/zos", "/freebsd"}, path)
}

// visit calls f for every value that is there, with how to change it.
func visit(v reflect.Value, path string, f func(path string, change func() func())) {
	set := func(value reflect.Value) func() func() {
		return func() func() {
			old := reflect.New(v.Type()).Elem()
			old.Set(v)
			v.Set(value)
			return func() { v.Set(old) }
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		switch {
		case !v.IsNil():
			visit(v.Elem(), path, f)
		case foreign(path):
			f(path, set(reflect.New(v.Type().Elem())))
		case v.Type().Elem().Kind() != reflect.Struct:
			p := reflect.New(v.Type().Elem())
			p.Elem().Set(other(p.Elem()))
			f(path, set(p))
		}
	case reflect.Slice:
		for i := range v.Len() {
			visit(v.Index(i), path+"[]", f)
		}
		if e := v.Type().Elem(); v.Len() == 0 && e.Kind() == reflect.String {
			f(path+"[]", set(reflect.Append(v, reflect.ValueOf("x").Convert(e))))
		}
	case reflect.Map:
		visitMap(v, path, f)
	case reflect.Struct:
		for i := range v.NumField() {
			visit(v.Field(i), path+member(v.Type().Field(i)), f)
		}
	default:
		f(path, set(other(v)))
	}
}

func visitMap(v reflect.Value, path string, f func(path string, change func() func())) {
	for _, key := range v.MapKeys() {
		value := reflect.New(v.Type().Elem()).Elem()
		value.Set(v.MapIndex(key))
		visit(value, path+"{}", func(path string, change func() func()) {
			f(path, func() func() {
				undo := change()
				v.SetMapIndex(key, value)
				return func() { undo(); v.SetMapIndex(key, value) }
			})
		})
		f(path+"{key}", func() func() {
			renamed := reflect.ValueOf(key.String() + "x").Convert(key.Type())
			v.SetMapIndex(renamed, value)
			v.SetMapIndex(key, reflect.Value{})
			return func() { v.SetMapIndex(renamed, reflect.Value{}); v.SetMapIndex(key, value) }
		})
	}
}

// other is another value of the kind.
func other(v reflect.Value) reflect.Value {
	n := reflect.New(v.Type()).Elem()
	switch {
	case v.Kind() == reflect.Bool:
		n.SetBool(!v.Bool())
	case v.Kind() == reflect.String:
		n.SetString(v.String() + "x")
	case v.CanInt():
		n.SetInt(v.Int() + 1)
	case v.CanUint():
		n.SetUint(v.Uint() + 1)
	default:
		panic("a configuration holds a value of kind " + v.Kind().String())
	}
	return n
}

// The test above can fail: a field that nobody reads is found.
func TestFieldWithoutConsequenceIsFound(t *testing.T) {
	type future struct {
		specs.Root
		Soon *struct {
			Word []string `json:"word"`
		} `json:"soon"`
	}
	got := leaves(reflect.TypeFor[future](), "/root")
	want := []string{"/root/path", "/root/readonly", "/root/soon/word[]"}
	if !slices.Equal(got, want) {
		t.Errorf("leaves %v: want %v", got, want)
	}
	seen := map[string]bool{}
	visit(reflect.ValueOf(&future{}).Elem(), "/root", func(path string, _ func() func()) { seen[path] = true })
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, []string{"/root/path", "/root/readonly"}) {
		t.Errorf("values %v", got)
	}
}
