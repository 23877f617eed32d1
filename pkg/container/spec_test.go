package container

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

const testID = "0123456789ab0123456789abcdef0123456789abcdef0123456789abcdef0123"

const testPasswd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
# a comment:x:7:7::/:/bin/sh
+nis
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
app:x:1000:1001:App,,,:/home/app:/bin/sh
1234:x:2000:2000:a name of digits:/home/digits:/bin/sh
huge:x:4294967296:0:out of range:/:/bin/sh
negative:x:-1:0:out of range:/:/bin/sh
short:x:9
nohome:x:1002:1002
`

const testGroup = `root:x:0:
daemon:x:1:
adm:x:4:root,app
www-data:x:33:
audio:x:29:app
app:x:1001:
4321:x:3000:
plugdev:x:46:app,www-data
`

func testMachine() Machine {
	return Machine{
		Hostname:          "build.example",
		CgroupV2:          true,
		TimeNamespace:     true,
		RecursiveReadOnly: true,
		Capabilities:      CapabilitySet(1<<41 - 1),
		CPUs:              4,
		CPUSet:            "0-3",
		MemoryNodes:       "0",
	}
}

func testInputs() Inputs {
	return Inputs{
		ID:      testID,
		Machine: testMachine(),
		Root: Root{
			Path: "/var/lib/containr/containers/" + testID + "/rootfs",
			Mounts: []specs.Mount{{
				Destination: "/", Type: "overlay", Source: "overlay",
				Options: []string{"lowerdir=/snapshots/b:/snapshots/a", "upperdir=/c/upper", "workdir=/c/work"},
			}},
		},
		Files:  Files{Hosts: "/c/hosts", Hostname: "/c/hostname", ResolvConf: "/c/resolv.conf"},
		Passwd: []byte(testPasswd),
		Group:  []byte(testGroup),
	}
}

func testImage() v1.ImageConfig {
	return v1.ImageConfig{
		Env:        []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"},
		Entrypoint: []string{"/entrypoint.sh"},
		Cmd:        []string{"serve", "--port=80"},
		WorkingDir: "/srv",
	}
}

// goldenCommands are typical commands; the file of each is what it means.
var goldenCommands = []struct {
	name   string
	config Config
	image  func(*v1.ImageConfig)
	inputs func(*Inputs)
}{
	{name: "default", config: Config{Image: "base"}},
	{name: "terminal", config: Config{Image: "base", TTY: true, Interactive: true, Args: []string{"sh"}, Entrypoint: []string{}},
		inputs: func(in *Inputs) { in.ConsoleSize = &specs.Box{Width: 120, Height: 40} }},
	{name: "user", config: Config{Image: "base", User: "app", GroupAdd: []string{"www-data", "5000"}, WorkDir: "/home/app"}},
	{name: "limits", config: Config{Image: "base",
		Resources: Resources{Memory: 64 << 20, NanoCPUs: 15e8, CPUShares: 512, Pids: 100, CPUs: "0-1", MemoryReservation: 32 << 20},
		Ulimits:   []Ulimit{{"nofile", 1024, 2048}, {"core", -1, -1}}}},
	{name: "privileged", config: Config{Image: "base", Privileged: true},
		inputs: func(in *Inputs) {
			in.AllDevices = []specs.LinuxDevice{{Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232}}
		}},
	{name: "hardened", config: Config{Image: "base", ReadOnly: true, CapDrop: []string{"all"}, CapAdd: []string{"net_bind_service"},
		User: "1000", Security: Security{NoNewPrivileges: true}, Mounts: []Mount{{Type: MountTmpfs, Target: "/tmp"}}}},
	{name: "mounts", config: Config{Image: "base", ShmSize: 1 << 20, Mounts: []Mount{
		{Type: MountBind, Source: "/data", Target: "/srv/data/deep"},
		{Type: MountBind, Source: "/etc/app", Target: "/etc/app", ReadOnly: true},
		{Type: MountBind, Source: "/shared", Target: "/shared", Propagation: "rshared"},
		{Type: MountTmpfs, Target: "/run", Size: 1 << 20, Mode: 0o1777, Options: []string{"exec", "uid=1000"}},
		{Type: MountBind, Source: "/my/hosts", Target: "/etc/hosts", ReadOnly: true, Recursion: RecursionDisabled},
	}}},
	{name: "host-namespaces", config: Config{Image: "base", Namespaces: Namespaces{
		Network: HostNamespace, PID: HostNamespace, IPC: HostNamespace, UTS: HostNamespace, Cgroup: HostNamespace}}},
	{name: "uidmap", config: Config{Image: "base", Namespaces: Namespaces{},
		UIDMap: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}},
		GIDMap: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}}},
	{name: "rootless", config: Config{Image: "base", Args: []string{"id"}}, inputs: func(in *Inputs) {
		in.Machine.Rootless, in.Machine.NoCgroups, in.Machine.DenySetgroups = true, true, true
		in.Machine.UIDMap = []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}
		in.Machine.GIDMap = in.Machine.UIDMap
	}},
	{name: "rootless-host-network", config: Config{Image: "base", Namespaces: Namespaces{Network: HostNamespace, PID: HostNamespace}},
		inputs: func(in *Inputs) {
			in.Machine.Rootless, in.Machine.NoCgroups = true, true
			in.Machine.UIDMap = []specs.LinuxIDMapping{{HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}}
			in.Machine.GIDMap = in.Machine.UIDMap
		}},
	{name: "devices-and-names", config: Config{Image: "base", Hostname: "web", Domainname: "example.org", Init: true,
		Devices:     []Device{{Host: "/dev/snd", Container: "/dev/sound", Access: "rw"}},
		Sysctls:     map[string]string{"net.core.somaxconn": "1024", "net.ipv4.ip_unprivileged_port_start": "1024"},
		Annotations: map[string]string{"org.example": "yes"}, CgroupParent: "/team",
		Env: []string{"LANG", "EXTRA=1", "PATH=/bin"}},
		inputs: func(in *Inputs) {
			in.InitPath = "/usr/libexec/containr/init"
			in.Devices = map[string][]specs.LinuxDevice{"/dev/snd": {
				{Path: "/dev/snd/timer", Type: "c", Major: 116, Minor: 33},
				{Path: "/dev/snd/seq", Type: "c", Major: 116, Minor: 1},
			}}
		}},
	{name: "rootfs-directory", config: Config{Rootfs: "/srv/tree", Args: []string{"/bin/true"}},
		image:  func(img *v1.ImageConfig) { *img = v1.ImageConfig{} },
		inputs: func(in *Inputs) { in.Root = Root{Path: "/srv/tree"} }},
	{name: "cgroup-v1", config: Config{Image: "base"}, inputs: func(in *Inputs) {
		in.Machine.CgroupV2, in.Machine.TimeNamespace, in.Machine.RecursiveReadOnly = false, false, false
	}},
}

func TestSpecGolden(t *testing.T) {
	for _, g := range goldenCommands {
		t.Run(g.name, func(t *testing.T) {
			img, in := testImage(), testInputs()
			if g.image != nil {
				g.image(&img)
			}
			if g.inputs != nil {
				g.inputs(&in)
			}
			spec, err := Spec(g.config, img, in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(spec, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, filepath.Join("testdata", "spec", g.name+".json"), append(got, '\n'))
		})
	}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); -update writes it anew:\n%s", path, diff)
	}
}

// TestDefaultContainerIsDockers holds the default against the facts that were
// read out of a container of docker 29.7.2: /proc/1/status, mountinfo and its
// inspect output.
func TestDefaultContainerIsDockers(t *testing.T) {
	spec, err := Spec(Config{Image: "base"}, testImage(), testInputs())
	if err != nil {
		t.Fatal(err)
	}
	var mask uint64
	for bit, name := range capabilityNames() {
		if slices.Contains(spec.Process.Capabilities.Bounding, name) {
			mask |= 1 << bit
		}
	}
	if mask != 0xa80425fb {
		t.Errorf("CapBnd is %x, want a80425fb", mask)
	}
	if c := spec.Process.Capabilities; len(c.Inheritable)+len(c.Ambient) != 0 || len(c.Effective) != 14 {
		t.Errorf("capability sets: %+v", c)
	}
	var kinds []string
	for _, n := range spec.Linux.Namespaces {
		kinds = append(kinds, string(n.Type))
	}
	slices.Sort(kinds)
	if want := []string{"cgroup", "ipc", "mount", "network", "pid", "time", "uts"}; !slices.Equal(kinds, want) {
		t.Errorf("namespaces %v, want %v", kinds, want)
	}
	if spec.Hostname != testID[:12] {
		t.Errorf("host name %q, want the short id", spec.Hostname)
	}
	if *spec.Process.OOMScoreAdj != 0 || spec.Process.NoNewPrivileges || len(spec.Process.Rlimits) != 0 {
		t.Errorf("process: %+v", spec.Process)
	}
	if spec.Mounts[0].Destination != "/" || spec.Mounts[0].Type != "overlay" {
		t.Errorf("the first mount is %+v, want the root", spec.Mounts[0])
	}
}

func TestSpecErrors(t *testing.T) {
	inUserns := Config{Image: "base", UIDMap: []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}, GIDMap: []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}}
	with := func(change func(*Config)) Config {
		c := Config{Image: "base"}
		change(&c)
		return c
	}
	tests := []struct {
		name   string
		config Config
		want   string
	}{
		{"no image", Config{}, "neither an image nor --rootfs"},
		{"both sources", Config{Image: "a", Rootfs: "/b"}, "--rootfs cannot be used with an image"},
		{"relative rootfs", Config{Rootfs: "b"}, "not an absolute path"},
		{"pull", with(func(c *Config) { c.Pull = "sometimes" }), "--pull sometimes: unknown value: use missing or always or never"},
		{"join nobody", with(func(c *Config) { c.Namespaces.PID = "container:" }), "--pid container: name the container"},
		{"hostname of another", with(func(c *Config) { c.Hostname = "x"; c.Namespaces.UTS = "container:web" }), "--hostname cannot be used with --uts container:web"},
		{"sysctl of another", with(func(c *Config) {
			c.Sysctls = map[string]string{"net.core.somaxconn": "5"}
			c.Namespaces.Network = "container:web"
		}), "--sysctl net.core.somaxconn: not allowed with --network container:web: it would change that container"},
		{"network", with(func(c *Config) { c.Namespaces.Network = "container:" }), "--network container:: whose?"},
		{"name", with(func(c *Config) { c.Name = "a b" }), "only letters, digits"},
		{"hostname of the host", with(func(c *Config) { c.Hostname = "x"; c.Namespaces.UTS = "host" }), "--hostname cannot be used with --uts host"},
		{"long hostname", with(func(c *Config) { c.Hostname = strings.Repeat("x", 65) }), "longer than 64"},
		{"hostname with blanks", with(func(c *Config) { c.Hostname = "a b" }), "white space"},
		{"workdir", with(func(c *Config) { c.WorkDir = "srv" }), "--workdir srv: not an absolute path"},
		{"oom", with(func(c *Config) { c.OOMScoreAdj = new(int); *c.OOMScoreAdj = 1001 }), "use -1000 to 1000"},
		{"stop signal", with(func(c *Config) { c.StopSignal = "SIGTREM" }), "did you mean SIGTERM?"},
		{"memory", with(func(c *Config) { c.Resources.Memory = 1 << 20 }), "--memory 1MiB: the smallest limit is 6MiB"},
		{"swap alone", with(func(c *Config) { c.Resources.MemorySwap = 1 << 30 }), "--memory-swap needs --memory"},
		{"swap below memory", with(func(c *Config) { c.Resources.Memory = 64 << 20; c.Resources.MemorySwap = 32 << 20 }), "is below --memory"},
		{"reservation", with(func(c *Config) { c.Resources.Memory = 64 << 20; c.Resources.MemoryReservation = 65 << 20 }), "is above --memory"},
		{"small reservation", with(func(c *Config) { c.Resources.MemoryReservation = 1 }), "the smallest is 6MiB"},
		{"too many cpus", with(func(c *Config) { c.Resources.NanoCPUs = 5e9 }), "--cpus 5: this machine has 4"},
		{"tiny cpus", with(func(c *Config) { c.Resources.NanoCPUs = 1 }), "the smallest is 0.01"},
		{"cpus and quota", with(func(c *Config) { c.Resources.NanoCPUs = 1e9; c.Resources.CPUQuota = 50000 }), "--cpus cannot be used with"},
		{"period", with(func(c *Config) { c.Resources.CPUPeriod = 10 }), "use 1000 to 1000000"},
		{"quota", with(func(c *Config) { c.Resources.CPUQuota = 10 }), "at least 1000"},
		{"shares", with(func(c *Config) { c.Resources.CPUShares = -1 }), "use a positive number"},
		{"cpuset", with(func(c *Config) { c.Resources.CPUs = "0-9" }), "number 4 is not available: this machine has 0-3"},
		{"mems", with(func(c *Config) { c.Resources.MemoryNodes = "x" }), "not numbers and ranges"},
		{"pids", with(func(c *Config) { c.Resources.Pids = -2 }), "-1 for no limit"},
		{"capability", with(func(c *Config) { c.CapAdd = []string{"SYS_ADMN"} }), `unknown capability "SYS_ADMN": did you mean CAP_SYS_ADMIN?`},
		{"dropped capability", with(func(c *Config) { c.CapDrop = []string{"xyzzy"} }), "--cap-drop: unknown capability"},
		{"user", with(func(c *Config) { c.User = "nobody-here" }), "not in the image's /etc/passwd"},
		{"sysctl of the host", with(func(c *Config) {
			c.Namespaces.Network = "host"
			c.Sysctls = map[string]string{"net.core.somaxconn": "1"}
		}),
			"not allowed with --network host"},
		{"apparmor", with(func(c *Config) { c.Security.AppArmor = "web" }), "does not enforce AppArmor"},
		{"selinux", with(func(c *Config) { c.Security.Labels = []string{"type:web_t"} }), "does not enforce SELinux"},
		{"two mounts", with(func(c *Config) {
			c.Mounts = []Mount{{Type: MountTmpfs, Target: "/a"}, {Type: MountTmpfs, Target: "/a"}}
		}), "two mounts on /a"},
		{"device", with(func(c *Config) { c.Devices = []Device{{Host: "/dev/none", Container: "/dev/none", Access: "r"}} }), "no device there"},
		{"init", with(func(c *Config) { c.Init = true }), "containr-init is not installed"},
		{"init under /dev", with(func(c *Config) { c.Init = true; c.Mounts = []Mount{{Type: MountBind, Source: "/dev", Target: "/dev"}} }), "--init cannot be used"},
		{"one map", Config{Image: "base", UIDMap: inUserns.UIDMap}, "both --uidmap and --gidmap"},
		{"maps on the host", func() Config { c := inUserns; c.Namespaces.User = "host"; return c }(), "leave out --userns host"},
		{"privileged userns", func() Config { c := inUserns; c.Privileged = true; return c }(), "add --userns host"},
		{"unmapped user", func() Config { c := inUserns; c.User = "app"; return c }(), "user 1000 is not in the user namespace: --uidmap covers 0-0"},
		{"unmapped group", func() Config { c := inUserns; c.User = "0:app"; return c }(), "group 1001 is not in the user namespace"},
		{"overlapping maps", func() Config {
			c := inUserns
			c.GIDMap = []specs.LinuxIDMapping{{HostID: 0, Size: 10}, {ContainerID: 9, HostID: 100, Size: 1}}
			return c
		}(), "overlap"},
		{"zero byte", with(func(c *Config) { c.Args = []string{"a\x00b"} }), "zero byte"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Spec(tt.config, testImage(), testInputs())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestRootlessLimitsAreRefused(t *testing.T) {
	in := testInputs()
	in.Machine.NoCgroups = true
	_, err := Spec(Config{Image: "base", Resources: Resources{Pids: 10}}, testImage(), in)
	if err == nil || !strings.Contains(err.Error(), "limits need a cgroup") {
		t.Errorf("error %v", err)
	}
}

func TestArguments(t *testing.T) {
	image := v1.ImageConfig{Entrypoint: []string{"entry"}, Cmd: []string{"default"}}
	tests := []struct {
		name       string
		image      v1.ImageConfig
		entrypoint []string
		args       []string
		want       string
	}{
		{"the image's", image, nil, nil, "entry default"},
		{"arguments replace CMD", image, nil, []string{"a", "b"}, "entry a b"},
		{"entrypoint drops CMD", image, []string{"mine"}, nil, "mine"},
		{"entrypoint with arguments", image, []string{"mine"}, []string{"a"}, "mine a"},
		{"entrypoint reset", image, []string{}, []string{"a"}, "a"},
		{"only CMD", v1.ImageConfig{Cmd: []string{"sh"}}, nil, nil, "sh"},
		{"only arguments", v1.ImageConfig{}, nil, []string{"sh"}, "sh"},
		{"reset without arguments", image, []string{}, nil, "error"},
		{"nothing at all", v1.ImageConfig{}, nil, nil, "error"},
		{"an empty name", v1.ImageConfig{}, nil, []string{""}, "error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := arguments(Config{Entrypoint: tt.entrypoint, Args: tt.args}, tt.image)
			if tt.want == "error" {
				if !errors.Is(err, ErrNoCommand) {
					t.Errorf("error %v, want ErrNoCommand", err)
				}
				return
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestEntrypointSurvivesJSON: nil and empty mean different things.
func TestEntrypointSurvivesJSON(t *testing.T) {
	for _, entrypoint := range [][]string{nil, {}, {"x"}} {
		data, err := json.Marshal(Config{Entrypoint: entrypoint})
		if err != nil {
			t.Fatal(err)
		}
		var back Config
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if (back.Entrypoint == nil) != (entrypoint == nil) {
			t.Errorf("%#v came back as %#v", entrypoint, back.Entrypoint)
		}
	}
}

func TestDefaultsIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, m := drawConfig(t), testMachine()
		m.CgroupV2 = rapid.Bool().Draw(t, "v2")
		once := Defaults(c, m)
		if diff := cmp.Diff(once, Defaults(once, m)); diff != "" {
			t.Errorf("a second time changes something: %s", diff)
		}
	})
}

// TestSpecIsPure: the same input gives the same output, and the input is left as
// it was, so that a Config can be stored after it was used.
func TestSpecIsPure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		before, _ := json.Marshal(c)
		one, err := Spec(c, testImage(), testInputs())
		if err != nil {
			t.Skip("this one is refused")
		}
		two, _ := Spec(c, testImage(), testInputs())
		if diff := cmp.Diff(one, two); diff != "" {
			t.Errorf("differs: %s", diff)
		}
		if after, _ := json.Marshal(c); string(after) != string(before) {
			t.Errorf("Spec changed its input:\n%s\n%s", before, after)
		}
	})
}

// TestUnprivilegedInvariants: whatever flags are combined, short of the ones that
// say otherwise, a container cannot reach these things of the host.
func TestUnprivilegedInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		c.Privileged, c.Security.SystemPaths = false, ""
		in := testInputs()
		in.Seccomp = func([]string) (*specs.LinuxSeccomp, error) {
			return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}, nil
		}
		spec, err := Spec(c, testImage(), in)
		if err != nil {
			t.Skip("this one is refused")
		}
		if len(spec.Process.Capabilities.Inheritable) > 0 || len(spec.Process.Capabilities.Ambient) > 0 {
			t.Error("inheritable or ambient capabilities")
		}
		if len(spec.Linux.MaskedPaths) == 0 || len(spec.Linux.ReadonlyPaths) == 0 || spec.Linux.Seccomp == nil {
			t.Error("no masks or no filter")
		}
		for _, m := range spec.Mounts {
			if (m.Type == "sysfs" || m.Type == "cgroup") && !slices.Contains(m.Options, "ro") {
				t.Errorf("%s is writable", m.Destination)
			}
		}
		if r := spec.Linux.Resources.Devices; r[0].Allow || r[0].Type != "" {
			t.Error("devices are not denied first")
		}
		if !slices.Contains(spec.Process.User.AdditionalGids, spec.Process.User.GID) {
			t.Error("the primary group is not among the groups")
		}
	})
}

func drawConfig(t *rapid.T) Config {
	some := func(name string, words ...string) []string {
		return rapid.SliceOfN(rapid.SampledFrom(words), 0, 3).Draw(t, name)
	}
	one := func(name string, words ...string) string { return rapid.SampledFrom(words).Draw(t, name) }
	return Config{
		Image: "base", Args: some("args", "a", "b"), User: one("user", "", "app", "33", "0:0"),
		Env: some("env", "A=1", "A", "PATH=/bin", "HOME"), ReadOnly: rapid.Bool().Draw(t, "ro"),
		Privileged: rapid.Bool().Draw(t, "privileged"),
		CapAdd:     some("add", "ALL", "net_raw", "CAP_SYS_ADMIN"), CapDrop: some("drop", "all", "chown"),
		Namespaces: Namespaces{Network: one("net", "", "none", "host"), PID: one("pid", "", "host"), IPC: one("ipc", "", "host", "none")},
		Resources:  Resources{Memory: rapid.SampledFrom([]int64{0, 1 << 20, 64 << 20}).Draw(t, "memory")},
		Sysctls:    map[string]string{"net.core.somaxconn": "5"},
		Mounts: rapid.SliceOfN(rapid.SampledFrom([]Mount{
			{Type: MountTmpfs, Target: "/tmp"}, {Type: MountBind, Source: "/a", Target: "/dev", ReadOnly: true},
			{Type: MountBind, Source: "/b", Target: "/etc/hosts"},
		}), 0, 2).Draw(t, "mounts"),
	}
}
