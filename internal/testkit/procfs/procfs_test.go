package procfs

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseMountinfo(t *testing.T) {
	const text = `36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 shared:7 - ext3 /dev/ro\134ot rw,errors=continue
22 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime - sysfs sysfs rw
40 28 0:35 / /tmp ro unbindable - fuse.x y:/z rw,user_id=0
41 40 0:36 / /tmp rw - tmpfs tmpfs rw,size=64k
`
	ms, err := ParseMountinfo(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := Mount{ID: 36, Parent: 35, Major: 98, Root: "/mnt1", Point: "/mnt 2", Options: []string{"rw", "noatime"},
		Propagation: []string{"master:1", "shared:7"}, Type: "ext3", Source: `/dev/ro\ot`, Super: []string{"rw", "errors=continue"}}
	if !reflect.DeepEqual(ms[0], want) {
		t.Errorf("got  %+v\nwant %+v", ms[0], want)
	}
	if !ms[0].Shared() || !ms[0].Slave() || ms[1].Shared() || !ms[1].Has("nodev") || !ms[0].SuperHas("errors=continue") {
		t.Errorf("predicates: %v", ms)
	}
	if m, ok := ms.At("/tmp"); !ok || m.ID != 41 {
		t.Errorf("topmost at /tmp: %v %v", m, ok)
	}
	for _, bad := range []string{"x", "1 2 3 / / rw - a b", "1 2 a:b / / rw - t s rw", "x 2 0:1 / / rw - t s rw", "1 2 0:1 / / rw shared:1 t s rw x"} {
		if _, err := ParseMountinfo(strings.NewReader(bad + "\n")); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestOwnMountinfoHasRoot(t *testing.T) {
	ms, err := Mountinfo(0)
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := ms.At("/"); !ok || m.Type == "" {
		t.Errorf("no mount at /: %v", ms)
	}
}

func TestOwnStatus(t *testing.T) {
	s, err := ReadStatus(0)
	if err != nil {
		t.Fatal(err)
	}
	if s.PID != os.Getpid() || s.PPID != os.Getppid() || s.UID.Effective != os.Geteuid() || s.Threads < 1 {
		t.Errorf("%+v", s)
	}
	groups, _ := os.Getgroups()
	if !slices.Equal(s.Groups, groups) && len(s.Groups)+len(groups) > 0 {
		t.Errorf("groups %v, want %v", s.Groups, groups)
	}
	if s.Fields["VmRSS"] == "" {
		t.Error("no VmRSS among the fields")
	}
}

func TestParseStatusRefuses(t *testing.T) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	for name, text := range map[string]string{
		"empty":        "",
		"no colon":     good + "x\n",
		"bad mask":     strings.Replace(good, "CapEff:\t", "CapEff:\tz", 1),
		"missing mask": strings.Replace(good, "CapEff:", "CapOff:", 1),
		"three ids":    good + "Uid:\t1 2 3\n",
	} {
		if _, err := ParseStatus(text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCaps(t *testing.T) {
	c := Caps(1<<21 | 1<<0 | 1<<50)
	if !c.Has("CAP_SYS_ADMIN") || c.Has("CAP_KILL") {
		t.Error(c.Names())
	}
	if got := strings.Join(c.Names(), " "); got != "CAP_CHOWN CAP_SYS_ADMIN CAP_50" {
		t.Error(got)
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown name did not panic")
		}
	}()
	c.Has("CAP_SYS_ADMIM")
}

func TestParseStat(t *testing.T) {
	s, err := ParseStat("42 (a) b (c)) S 1 42 41 34816 43 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 0 0\n")
	if err != nil {
		t.Fatal(err)
	}
	want := Stat{PID: 42, Comm: "a) b (c)", State: "S", PPID: 1, PGID: 42, SID: 41, TTY: 34816, TPGID: 43, Start: 777}
	if s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	if s, err := ParseStat("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0\n"); err != nil || !s.Kernel {
		t.Errorf("a thread of the kernel: %+v, %v", s, err)
	}
	for _, bad := range []string{"", "1 (x) S 1", "1 (x) S a 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"} {
		if _, err := ParseStat(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestDescendants(t *testing.T) {
	procs := map[int]Stat{1: {}, 2: {PPID: 1}, 3: {PPID: 2}, 4: {PPID: 3}, 5: {PPID: 1}, 6: {PPID: 3}}
	if got := Descendants(procs, 2); !slices.Equal(got, []int{3, 4, 6}) {
		t.Error(got)
	}
}

func TestParseCgroups(t *testing.T) {
	got, err := ParseCgroups("12:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/x\n")
	want := []CgroupEntry{{12, []string{"cpu", "cpuacct"}, "/a:b"}, {1, []string{"name=systemd"}, "/"}, {0, nil, "/x"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %v", got, err)
	}
	if _, err := ParseCgroups("1:x"); err == nil {
		t.Error("no error")
	}
}

func TestNamespaces(t *testing.T) {
	ns, err := Namespaces(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"mnt", "pid", "net", "uts", "ipc", "user", "cgroup"} {
		if ns[n] == 0 {
			t.Errorf("no %s namespace in %v", n, ns)
		}
	}
}
