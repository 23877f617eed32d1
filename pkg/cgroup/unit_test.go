package cgroup

import (
	"errors"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

func managed(f *host.Facts) *host.Facts {
	f.Manager = "/"
	if !f.Root() {
		f.Manager = "/user.slice/user-1000.slice/user@1000.service"
	}
	return f
}

// TestUnitGolden shows the plans of groups that come from systemd.
func TestUnitGolden(t *testing.T) {
	annotated := specOf("machine-apps.slice:app:c1", everyLimit(host.CgroupV2))
	annotated.Annotations = map[string]string{
		"org.systemd.property.TimeoutStopSec": "5", "org.systemd.property.After": "['a.service', 'b.service']",
		"org.systemd.property.CollectMode": "'inactive'", "else": "x",
	}
	for _, c := range []struct {
		name  string
		facts *host.Facts
		spec  *specs.Spec
	}{
		{"unit-v1", machineV1(), specOf("", usualLimits())},
		{"unit-v2", machineV2(), specOf("", usualLimits())},
		{"unit-v2-every", machineV2(), annotated},
		{"unit-user", delegatedV2(), specOf(":app:c1", &specs.LinuxResources{Memory: usualLimits().Memory})},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := PlanUnit(c.spec, managed(c.facts), "c1")
			if err != nil {
				t.Fatal(err)
			}
			whole := plan.Plan{Steps: slices.Concat(p.Setup, p.Enter, p.Attach)}
			if err := whole.Validate(Process); err != nil {
				t.Error(err)
			}
			golden(t, c.name, show(t, &whole))
		})
	}
}

func TestUpdateOfUnitGolden(t *testing.T) {
	p, err := PlanUnit(specOf("", nil), managed(machineV2()), "c1")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := Update(Change{Paths: p.Paths, Unit: p.Unit, New: usualLimits()}, machineV2())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "unit-update", show(t, &plan.Plan{Steps: steps}))
	steps, err = Update(Change{Paths: p.Paths, Unit: p.Unit, New: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}}}, machineV2())
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := steps[0].Call.(linux.SetUnit); !ok || !slices.Equal(c.Properties, []string{"TasksMax t 5"}) {
		t.Errorf("%+v: the devices did not change", steps[0].Call)
	}
}

func TestUnitPaths(t *testing.T) {
	const user = "/user.slice/user-1000.slice/user@1000.service"
	for _, c := range []struct {
		root       bool
		path, want string
	}{
		{true, "", "/system.slice/containr-c1.scope"},
		{true, "a.slice:docker:x", "/a.slice/docker-x.scope"},
		{true, "a-b-c.slice:docker:x", "/a.slice/a-b.slice/a-b-c.slice/docker-x.scope"},
		{true, "-.slice::x", "/x.scope"},
		{true, ":p:x", "/system.slice/p-x.scope"},
		{false, "", user + "/user.slice/containr-c1.scope"},
		{false, "app.slice::x", user + "/app.slice/x.scope"},
	} {
		f := machineV2()
		if !c.root {
			f = delegatedV2()
		}
		p, err := PlanUnit(specOf(c.path, nil), managed(f), "c1")
		if err != nil || !slices.Equal(p.Paths, []string{"/sys/fs/cgroup" + c.want}) {
			t.Errorf("%q: %+v, error %v, want %s", c.path, p, err, c.want)
		}
	}
}

func TestUnitRefusals(t *testing.T) {
	annotation := func(name, value string) map[string]string {
		return map[string]string{"org.systemd.property." + name: value}
	}
	for _, c := range []struct {
		name        string
		facts       *host.Facts
		path        string
		annotations map[string]string
		is          error
		says        string
	}{
		{"path", machineV2(), "/a/b", nil, ErrInvalid, "slice:prefix:name"},
		{"four parts", machineV2(), "a:b:c:d", nil, ErrInvalid, "slice:prefix:name"},
		{"no slice", machineV2(), "a:b:c", nil, ErrInvalid, `"a" is no name of a slice`},
		{"slice outside", machineV2(), "../../a.slice:b:c", nil, ErrInvalid, "no name of a slice"},
		{"slice of nothing", machineV2(), "a--b.slice:b:c", nil, ErrInvalid, "no name of a slice"},
		{"name outside", machineV2(), "a.slice:b:../../c", nil, ErrInvalid, "no name of a unit"},
		{"name with a line", machineV2(), "a.slice:b:c\nd", nil, ErrInvalid, "no name of a unit"},
		{"slice as name", machineV2(), "a.slice:b:c.slice", nil, ErrInvalid, "a container is a scope"},
		{"long name", machineV2(), "a.slice:b:" + strings.Repeat("x", 250), nil, ErrInvalid, "no name of a unit"},
		{"user on v1", ordinary(machineV1()), "", nil, ErrNotDelegated, "cgroup v1"},
		{"no cgroups", &host.Facts{}, "", nil, ErrNoController, "mounted"},
		{"annotation", machineV2(), "", annotation("After", "["), ErrInvalid, "org.systemd.property.After"},
		{"property name", machineV2(), "", annotation("A B", "1"), ErrInvalid, "no name of a property"},
		{"processes", machineV2(), "", annotation("PIDs", "[uint32 1]"), ErrInvalid, "sets this one itself"},
		{"seconds", machineV2(), "", annotation("TimeoutStopSec", "'5'"), ErrInvalid, "no number of seconds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := specOf(c.path, nil)
			spec.Annotations = c.annotations
			p, err := PlanUnit(spec, managed(c.facts), "c1")
			if !errors.Is(err, c.is) || p != nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v with %q", err, c.is, c.says)
			}
		})
	}
	if _, err := Plan(specOf("a.slice:b:c", nil), machineV2(), "c1"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "--systemd-cgroup") {
		t.Errorf("systemd's form without systemd: %v", err)
	}
}

// TestUnitDevices: what systemd cannot express it is not told, lest it denies too much.
func TestUnitDevices(t *testing.T) {
	deny := specs.LinuxDeviceCgroup{Access: "rwm"}
	for _, c := range []struct {
		rules []specs.LinuxDeviceCgroup
		want  string
	}{
		{[]specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, "auto"},
		{[]specs.LinuxDeviceCgroup{deny, {Allow: true, Type: "c", Minor: ptr(int64(3)), Access: "r"}}, "auto"},
		{[]specs.LinuxDeviceCgroup{deny, {Allow: true, Type: "b", Major: ptr(int64(8)), Access: "r"}, {Type: "b", Major: ptr(int64(8)), Minor: ptr(int64(1)), Access: "r"}}, "auto"},
		{[]specs.LinuxDeviceCgroup{deny, {Allow: true, Type: "b", Major: ptr(int64(8)), Access: "r"}}, "strict /dev/char/1:3 block-8 char-* block-* char-136"},
	} {
		list := unitLimits(&specs.LinuxResources{Devices: c.rules}, managed(machineV2()))
		for i, want := range strings.Fields(c.want) {
			if i == 0 {
				want = "DevicePolicy s " + want
			}
			if !strings.Contains(strings.Join(list, " ")+" ", want+" ") {
				t.Errorf("%v: %q is not in %q", c.rules, want, list)
			}
		}
	}
}

func TestUnitSets(t *testing.T) {
	for list, want := range map[string]string{
		"0": "A ay 1 1", "0-3": "A ay 1 15", "1,8-9": "A ay 2 2 3", "31": "A ay 4 0 0 0 128", "": "", "0-31:2/4": "", "9999": "",
	} {
		var u unitProperties
		u.bits("A", list)
		if got := strings.Join(u, "|"); got != want {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
	for _, c := range []struct {
		quota  int64
		period uint64
		want   int64
	}{{150000, 100000, 1500000}, {33333, 100000, 340000}, {-1, 100000, -1}, {0, 5, -1}, {1 << 62, 5, -1}} {
		if got := perSecond(c.quota, c.period); got != c.want {
			t.Errorf("%d of %d: %d, want %d", c.quota, c.period, got, c.want)
		}
	}
}

func TestVariants(t *testing.T) {
	for text, want := range map[string]string{
		"'a b'": `s|a b`, `"it's"`: "s|it's", `'it\'s'`: "s|it's", "true": "b|true", " 5 ": "i|5", "-5": "i|-5", "uint64 0x10": "t|16",
		"byte 7": "y|7", "1.5": "d|1.5", "['a', 'b']": "as|2|a|b", "@as []": "as|0", "[uint32 1, 2]": "au|2|1|2",
		"[('a', uint64 1), ('b', uint64 2)]": "a(st)|2|a|1|b|2", "@t 7": "t|7", "objectpath '/a'": "o|/a",
	} {
		signature, words, err := parseVariant(text)
		if got := strings.Join(append([]string{signature}, words...), "|"); err != nil || got != want {
			t.Errorf("%s: %q, error %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "'a", "[1, 'a']", "[]", "()", "5 6", "uint64 -1", "byte 256", "nothing", "@as 5", "[1 2]", "[1,", strings.Repeat("[", 99), `'\n'`, "int32 'a'", "@s true"} {
		if signature, words, err := parseVariant(text); err == nil {
			t.Errorf("%s: %q %q and no error", text, signature, words)
		}
	}
}

func FuzzVariant(f *testing.F) {
	f.Add("[('a', uint64 1)]")
	f.Add("@as []")
	f.Fuzz(func(t *testing.T, text string) {
		signature, words, err := parseVariant(text)
		if err != nil {
			return
		}
		list, ok := linux.SplitProperty(linux.Property(append([]string{"A", signature}, words...)...))
		if !ok || !slices.Equal(list[2:], words) {
			t.Errorf("%q: %q, %q", text, words, list)
		}
	})
}
