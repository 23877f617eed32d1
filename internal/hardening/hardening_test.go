package hardening

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/doctor"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/host"
)

var update = flag.Bool("update", false, "write the golden files anew")

func compareGolden(t *testing.T, name string, findings []Finding) {
	t.Helper()
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%-4s %s %s: %s\n     mend: %s\n", f.Level, f.ID, f.Container, f.Why, f.Mend)
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// A container with every wall, and one with none.
func TestCheckContainer(t *testing.T) {
	usual := []string{"CAP_CHOWN", "CAP_KILL"}
	spec := func(uid uint32, caps []string, env ...string) *specs.Spec {
		return &specs.Spec{Linux: &specs.Linux{}, Process: &specs.Process{User: specs.User{UID: uid}, Capabilities: &specs.LinuxCapabilities{Bounding: caps}, Env: env}}
	}
	hardened := container.Record{Name: "hardened", Spec: spec(1000, nil, "PATH=/bin", "DB_PASSWORD_FILE=/run/secrets/db"), Check: &container.Check{}, Config: container.Config{
		CapDrop: []string{"ALL"}, ReadOnly: true, Security: container.Security{NoNewPrivileges: true, Seccomp: container.SeccompStrict},
		Resources: container.Resources{Memory: 1 << 29, Pids: 100}, Mounts: []container.Mount{{Type: container.MountBind, Source: "/etc/localtime", Target: "/etc/localtime", ReadOnly: true}},
	}}
	if found := CheckContainer(&hardened, false); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	open := container.Record{Name: "open", Spec: spec(0, append(usual, "CAP_SYS_ADMIN"), "DB_PASSWORD=hunter2", "GITHUB_TOKEN=abc", "EMPTY_SECRET="),
		Published: []container.Port{{HostPort: 22, Port: 2222}}, Config: container.Config{
			Restart:    container.Restart{Policy: "always"},
			Security:   container.Security{Seccomp: container.SeccompUnconfined, AppArmor: "unconfined", Labels: []string{"disable"}, SystemPaths: "unconfined"},
			Namespaces: container.Namespaces{Network: "host", PID: "host", IPC: "host", UTS: "host", Cgroup: "host"},
			Devices:    []container.Device{{Host: "/dev/sda"}},
			Mounts: []container.Mount{
				{Type: container.MountBind, Source: "/", Target: "/host"}, {Type: container.MountBind, Source: "/etc", Target: "/e", ReadOnly: true},
				{Type: container.MountBind, Source: "/etc/app.conf", Target: "/c"}, {Type: container.MountBind, Source: "/var/run/docker.sock", Target: "/s"},
				{Type: container.MountBind, Source: "/srv", Target: "/srv", Propagation: "rshared"}, {Type: container.MountVolume, Source: "data", Target: "/data"},
				{Type: container.MountBind, Source: "/usr/local/bin", Target: "/b"}, {Type: container.MountBind, Source: "/usr/share/zoneinfo", Target: "/z", ReadOnly: true},
				{Type: container.MountBind, Source: "/var/spool/cron", Target: "/cron"}, {Type: container.MountVolume, Source: "all", Target: "/all"},
				{Type: container.MountBind, Source: "testdata/leads-to-etc", Target: "/linked"},
			}}}
	open.Spec.Mounts = []specs.Mount{{Destination: "/data", Source: "/var/lib/containr/volumes/data/data", Options: []string{"bind"}}, {Destination: "/all", Source: "/", Options: []string{"rbind"}}}
	compareGolden(t, "open", CheckContainer(&open, false))
	compareGolden(t, "usual", CheckContainer(&container.Record{Name: "usual", Spec: spec(0, usual)}, false))
	compareGolden(t, "usual-person", CheckContainer(&container.Record{Name: "usual", Spec: spec(0, usual)}, true))
	compareGolden(t, "privileged", CheckContainer(&container.Record{Name: "privileged", Spec: spec(0, usual), Config: container.Config{Privileged: true}}, false))
	mapped := container.Record{Name: "mapped", Spec: spec(0, usual)}
	mapped.Spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.UserNamespace}}
	for _, f := range CheckContainer(&mapped, false) {
		if f.ID == "container.user" {
			t.Errorf("%+v", f)
		}
	}
}

// No value of a variable is in what is said, whatever the names are.
func TestValuesAreNotPrinted(t *testing.T) {
	const value = "hunter2"
	var env []string
	for _, w := range secretWords {
		env = append(env, "MY_"+w+"="+value, strings.ToLower(w)+"="+value)
	}
	r := container.Record{Spec: &specs.Spec{Process: &specs.Process{Env: env}}, Config: container.Config{Env: env}}
	found := CheckContainer(&r, false)
	if text := fmt.Sprintf("%+v", found); strings.Contains(text, value) || !strings.Contains(text, "MY_PASSWORD") || !strings.Contains(text, "api_key") {
		t.Error(text)
	}
}

func TestCheckHost(t *testing.T) {
	good := func() *Host {
		return &Host{Machine: &doctor.Machine{Facts: host.Facts{Kernel: host.Kernel{Major: 6, Minor: 12}, CgroupMode: host.CgroupV2, AppArmor: true}, SeccompActions: []string{"errno"}},
			Vulnerabilities: map[string]string{"meltdown": "Not affected", "spectre_v2": "Mitigation: Retpolines"}, Lockdown: "integrity",
			Sysctls: map[string]string{"kernel.kptr_restrict": "1", "kernel.yama.ptrace_scope": "1", "fs.protected_symlinks": "1"},
			Files:   []File{{Path: "/var/lib/containr", Kind: StateRoot, Mode: 0o700}, {Path: "/run/docker.sock", Kind: Socket, Mode: 0o660}, {Path: "/etc/subuid", Kind: SubIDs, Mode: 0o644}}}
	}
	if found := CheckHost(good()); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	bad := good()
	bad.Facts.AppArmor, bad.Facts.CgroupMode, bad.Facts.Kernel = false, host.CgroupV1, host.Kernel{Major: 5, Minor: 4}
	bad.SeccompActions, bad.MaxUserNamespaces, bad.Lockdown = nil, 1000, "none"
	bad.Storage = doctor.Storage{Root: "/mnt/stick", FileSystem: "vfat"}
	bad.Vulnerabilities["mds"], bad.Vulnerabilities["l1tf"] = "Vulnerable: Clear CPU buffers attempted, no microcode", "Vulnerable"
	for _, s := range sysctls {
		bad.Sysctls[s.name] = "0"
	}
	bad.Files = []File{{Path: "/var/lib/containr", Kind: StateRoot, Mode: 0o777}, {Path: "/etc/containr/config.toml", Kind: Defaults, Mode: 0o664}, {Path: "/run/docker.sock", Kind: Socket, Mode: 0o666},
		{Path: "/dev/mem", Kind: Devices, Mode: 0o666}, {Path: "/etc/subuid", Kind: SubIDs, Mode: 0o644, UID: 5}}
	compareGolden(t, "bad-host", CheckHost(bad))
}

func TestWorst(t *testing.T) {
	found := []Finding{{Level: Note}, {Level: Warn}}
	if Worst(found, High) || !Worst(found, Warn) || !Worst(found, Note) || Worst(nil, Note) {
		t.Error("levels are in another order")
	}
}
