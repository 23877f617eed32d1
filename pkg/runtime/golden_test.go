package runtime

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/security"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A machine on paper: plans for it are the same on every machine.
func paperFacts(mode host.CgroupMode, kernel host.Kernel) *host.Facts {
	f := &host.Facts{Arch: "amd64", Kernel: kernel, Capabilities: 1<<41 - 1, LastCapability: 40, CgroupMode: mode}
	switch mode {
	case host.CgroupV1:
		for _, c := range []string{"cpuset", "memory", "pids", "devices"} {
			f.Hierarchies = append(f.Hierarchies, host.Hierarchy{Controllers: []string{c}, Path: "/sys/fs/cgroup/" + c, Own: "/"})
		}
	case host.CgroupV2:
		f.Hierarchies = []host.Hierarchy{{Controllers: []string{"cpu", "cpuset", "io", "memory", "pids"}, Path: "/sys/fs/cgroup", Own: "/"}}
	}
	return f
}

// paperDevices are the devices that a user namespace gets bound, as every host has them.
func paperDevices() map[string]host.Source {
	m := map[string]host.Source{}
	for path, minor := range map[string]uint32{"/dev/null": 3, "/dev/zero": 5, "/dev/full": 7, "/dev/random": 8, "/dev/urandom": 9} {
		m[path] = host.Source{Kind: host.File, Device: host.Device{Kind: unix.S_IFCHR, Major: 1, Minor: minor}}
	}
	m["/dev/tty"] = host.Source{Kind: host.File, Device: host.Device{Kind: unix.S_IFCHR, Major: 5}}
	return m
}

func goldenInputs() map[string]Input {
	memory := int64(64 << 20)
	limited := exampleSpec("sh", "-c", "true")
	limited.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory}}
	terminal := exampleSpec("/bin/sh")
	terminal.Process.Terminal = true
	overlay := exampleSpec("/bin/sh")
	overlay.Mounts = append([]specs.Mount{{Destination: "/", Type: "overlay", Source: "overlay",
		Options: []string{"lowerdir=/layers/2:/layers/1", "upperdir=/c/upper", "workdir=/c/work"}}}, overlay.Mounts...)
	joined := exampleSpec("/bin/sh")
	joined.Linux.Namespaces[0].Path = "/proc/42/ns/pid"
	joined.Linux.Namespaces[4].Path = "/proc/42/ns/net"
	bound := exampleSpec("/bin/sh")
	bound.Mounts = append(bound.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: "/srv", Options: []string{"rbind", "ro", "rprivate"}})
	bound.Mounts = append(bound.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: "/c/hosts", Options: []string{"bind", "ro"}})
	secret := exampleSpec("/bin/sh")
	secret.Mounts = append(secret.Mounts, specs.Mount{Destination: "/run/secrets", Type: "secrets", Options: []string{"mode=755", "containr.secret=db:0400:33:34:db", "containr.secret=key:0444:0:0:.1.key"}},
		specs.Mount{Destination: "/etc/key", Type: "secret", Source: ".1.key"})
	sources := map[string]host.Source{"/srv": {Kind: host.Directory, Mount: linux.MsNosuid}, "/c/hosts": {Kind: host.File}}
	user := userSpec()
	user.Process.User.UID = 1000
	hooks, ten := exampleSpec("sh"), 10
	hooks.Hooks = &specs.Hooks{
		CreateRuntime:   []specs.Hook{{Path: "/usr/bin/net", Args: []string{"net", "add"}, Env: []string{"A=1"}, Timeout: &ten}},
		CreateContainer: []specs.Hook{{Path: "/usr/bin/device"}},
		StartContainer:  []specs.Hook{{Path: "/sbin/ldconfig"}},
		Poststart:       []specs.Hook{{Path: "/usr/bin/tell"}},
		Poststop:        []specs.Hook{{Path: "/usr/bin/net", Args: []string{"net", "remove"}}},
	}
	hooks.Annotations = map[string]string{"run.oci.hooks.stderr": "/var/log/hooks"}
	shifted := exampleSpec("/bin/sh")
	shifted.Linux.Namespaces = append(shifted.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	shifted.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: -1, Nanosecs: 5}, "boottime": {Secs: 86400}}
	scheduled := exampleSpec("/bin/sh")
	scheduled.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO, Priority: 10, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
	scheduled.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 3}
	scheduled.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolInterleave, Nodes: "0-1,64", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
	scheduled.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	labelled := exampleSpec("/bin/sh")
	labelled.Linux.MountLabel, labelled.Process.SelinuxLabel = "system_u:object_r:container_file_t:s0:c1,c2", "system_u:system_r:container_t:s0:c1,c2"
	labelled.Process.ApparmorProfile = "containr-default"
	confined := exampleSpec("sh")
	confined.Process.NoNewPrivileges, confined.Annotations = true, map[string]string{security.WritableAnnotation: "/tmp:/var/lib/data"}
	layers := userSpec()
	layers.Mounts = append([]specs.Mount{{Destination: "/", Type: "overlay", Source: "overlay",
		Options: []string{"lowerdir=/layers/2:/layers/1", "upperdir=/c/upper", "workdir=/c/work", "idmap"}}}, layers.Mounts...)
	mapped := exampleSpec("/bin/sh")
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}}
	mapped.Mounts = append(mapped.Mounts,
		specs.Mount{Destination: "/data", Type: "bind", Source: "/srv", Options: []string{"rbind", "ro"}, UIDMappings: ids, GIDMappings: ids},
		specs.Mount{Destination: "/var/cache", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "ro"}})
	notified := exampleSpec("sh")
	notified.Linux.Seccomp = notifyPolicy("/run/agent")
	linked := exampleSpec("/bin/sh")
	linked.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth1": {Name: "net%d"}, "dummy0": {}}
	links := map[string]host.Link{"dummy0": {Index: 5}, "eth1": {Index: 3, Addresses: []host.Address{
		{Local: "\x0a\x00\x00\x02", Prefix: 24, Broadcast: "\x0a\x00\x00\xff"},
		{Local: "\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02", Prefix: 64, Flags: 2}}}}
	classed := exampleSpec("/bin/sh")
	classed.Linux.IntelRdt = &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=7f0;1=1f", MemBwSchema: "MB:0=20;1=70", Schemata: []string{"L2:0=f"}, EnableMonitoring: true}
	shared := exampleSpec("sh")
	shared.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.PIDNamespace}}
	shared.Hostname, shared.Linux.Sysctl = "", nil
	kept := exampleSpec("sh")
	kept.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{5}}
	kept.Annotations = map[string]string{"run.oci.keep_original_groups": "1"}
	oldKernel, newKernel := host.Kernel{Major: 5, Minor: 10}, host.Kernel{Major: 6, Minor: 12}
	modules := paperFacts(host.CgroupV2, newKernel)
	modules.AppArmor, modules.SELinux = true, true
	const image = rootfs.ImageOption + "/layers/2.erofs:/layers/2"
	images, mappedImages := exampleSpec("sh"), userSpec()
	images.Mounts = append([]specs.Mount{{Destination: "/", Type: "overlay", Source: "overlay", Options: append([]string{image}, overlay.Mounts[0].Options...)}}, images.Mounts...)
	mappedImages.Mounts = append([]specs.Mount{{Destination: "/", Type: "overlay", Source: "overlay", Options: append([]string{image}, layers.Mounts[0].Options...)}}, mappedImages.Mounts...)
	root := func(in Input) Input { in.ID, in.Root = "golden", "/rootfs"; return in }
	return map[string]Input{
		"shared":       root(Input{Spec: shared, Facts: paperFacts(host.CgroupV2, newKernel)}),
		"v1":           root(Input{Spec: limited, Facts: paperFacts(host.CgroupV1, newKernel)}),
		"v2":           root(Input{Spec: limited, Facts: paperFacts(host.CgroupV2, newKernel)}),
		"terminal":     root(Input{Spec: terminal, Facts: paperFacts(host.CgroupV2, newKernel)}),
		"keeper":       root(Input{Spec: overlay, Facts: paperFacts(host.CgroupV2, newKernel), ExitFile: "/run/exit"}),
		"hold":         root(Input{Spec: terminal, Facts: paperFacts(host.CgroupV2, newKernel), ExitFile: "/run/exit", Hold: true, StateFile: "/run/state.json"}),
		"create":       root(Input{Spec: exampleSpec("sh"), Facts: paperFacts(host.CgroupV2, newKernel), StartFifo: "/run/start"}),
		"hooks":        root(Input{Spec: hooks, Facts: paperFacts(host.CgroupV1, newKernel), Bundle: "/bundle"}),
		"hooks-create": root(Input{Spec: hooks, Facts: paperFacts(host.CgroupV2, newKernel), Bundle: "/bundle", StartFifo: "/run/start"}),
		"time":         root(Input{Spec: shifted, Facts: paperFacts(host.CgroupV2, newKernel)}),
		"scheduled":    root(Input{Spec: scheduled, Facts: paperFacts(host.CgroupV2, newKernel)}),
		"listener":     root(Input{Spec: notified, Facts: paperFacts(host.CgroupV2, newKernel), StartFifo: "/run/start", Bundle: "/bundle"}),
		"links":        root(Input{Spec: linked, Facts: paperFacts(host.CgroupV2, newKernel), Links: links}),
		"resctrl":      root(Input{Spec: classed, Facts: paperFacts(host.CgroupV2, newKernel), Resctrl: host.Resctrl{Path: "/sys/fs/resctrl"}}),
		"join":         root(Input{Spec: joined, Facts: paperFacts(host.CgroupV2, newKernel)}),
		"user":         root(Input{Spec: user, Facts: paperFacts(host.CgroupV2, newKernel), Sources: paperDevices()}),
		"secrets":      root(Input{Spec: secret, Facts: paperFacts(host.CgroupV2, newKernel)}),
		"bind":         root(Input{Spec: bound, Facts: paperFacts(host.CgroupV2, newKernel), Sources: sources}),
		"bind-old":     root(Input{Spec: bound, Facts: paperFacts(host.CgroupV2, oldKernel), Sources: sources}),
		"landlock":     root(Input{Spec: confined, Facts: paperFacts(host.CgroupV2, newKernel)}),
		"labels":       root(Input{Spec: labelled, Facts: modules}),
		"groups":       root(Input{Spec: kept, Facts: paperFacts(host.CgroupV2, newKernel)}),
		"layers":       root(Input{Spec: layers, Facts: paperFacts(host.CgroupV2, newKernel), Sources: paperDevices(), ExitFile: "/run/exit", MapLayers: rootfs.MapLayers}),
		"images":       root(Input{Spec: images, Facts: paperFacts(host.CgroupV2, newKernel), ExitFile: "/run/exit"}),
		"images-user":  root(Input{Spec: mappedImages, Facts: paperFacts(host.CgroupV2, newKernel), Sources: paperDevices(), ExitFile: "/run/exit", MapLayers: rootfs.MapLayers}),
		"mapped":       root(Input{Spec: mapped, Facts: paperFacts(host.CgroupV2, newKernel), Sources: sources}),
	}
}

func TestGoldenPlans(t *testing.T) {
	for name, in := range goldenInputs() {
		t.Run(name, func(t *testing.T) {
			p, err := Compile(in)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Validate("sync", "console", "held", "ear", "bell"); err != nil {
				t.Error(err)
			}
			var b strings.Builder
			if err := p.Write(&b, plan.Steps); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".plan")
			if *update {
				if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("the plan differs from %s; run make golden and look at the difference:\n%s", path, b.String())
			}
		})
	}
}

// The same input gives the same plan, and planning changes nothing of it.
func TestCompileIsPure(t *testing.T) {
	for name, in := range goldenInputs() {
		first, err := Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(first, second) {
			t.Errorf("%s: two plans for one input", name)
		}
	}
}

// What must be true of every plan, whatever is asked for: the order is the security
// argument.
func TestOrderOfEveryPlan(t *testing.T) {
	for name, in := range goldenInputs() {
		p, err := Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		last := map[string]int{}
		first := map[string]int{}
		for i := range p.Steps {
			call := p.Steps[i].Call.Name()
			last[call] = i
			if _, seen := first[call]; !seen {
				first[call] = i
			}
		}
		orders := [][2]string{{"close_range", "getcwd"}, {"getcwd", "setresgid"}, {"capset", "execve"}}
		if name != "groups" { // which keeps those of the caller
			orders = append(orders, [2]string{"setgroups", "capset"})
		}
		if name == "landlock" { // its directories are looked up as the program sees them, and nothing comes after it that it would refuse
			orders = append(orders, [][2]string{{"pivot_root", "landlock_create_ruleset"}, {"capset", "landlock_restrict_self"}, {"landlock_restrict_self", "execve"}}...)
		}
		if name == "shared" { // its root cannot be pivoted
			orders = append(orders, [][2]string{{"clone3", "chroot"}, {"move_mount", "chroot"}, {"chroot", "close_range"}}...)
		} else {
			birth := [2]string{"clone3", "pivot_root"}
			if name == "join" { // others see who is born, who has nothing of the host's by then
				birth = [2]string{"close_range", "clone3"}
			}
			orders = append(orders, [][2]string{birth, {"move_mount", "pivot_root"}, {"pivot_root", "umount2"}, {"umount2", "close_range"}}...)
		}
		for _, order := range orders {
			before, ok1 := last[order[0]]
			after, ok2 := last[order[1]]
			if ok1 && ok2 && before > after {
				t.Errorf("%s: %s (step %d) comes after %s (step %d)", name, order[0], before+1, order[1], after+1)
			}
			if !ok1 || !ok2 {
				t.Errorf("%s: the plan lacks %s or %s", name, order[0], order[1])
			}
		}
	}
}
