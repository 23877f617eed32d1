package criu

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What is asked for is on the command line, and nothing else.
func TestArgs(t *testing.T) {
	o := Options{ImageDir: "/i", WorkDir: "/w"}
	all := Options{ImageDir: "/i", WorkDir: "/w", TCPEstablished: true, ExtUnixSk: true, ShellJob: true, FileLocks: true, AutoDedup: true,
		LazyPages: true, CgroupsMode: "full", Config: "/c"}
	for want, got := range map[string][]string{
		"criu dump --tree 7 --images-dir /i --work-dir /w -v4 --log-file dump.log --manage-cgroups=soft": (&Dump{Options: o, PID: 7}).Args(),
		"criu dump --tree 7 --config /c --images-dir /i --work-dir /w -v4 --log-file dump.log --tcp-established --ext-unix-sk --shell-job --file-locks " +
			"--auto-dedup --lazy-pages --manage-cgroups=full --freeze-cgroup /f --track-mem --prev-images-dir ../p --leave-running --skip-in-flight " +
			"--link-remap --address ::1 --port 9 --status-fd 5 --external a --external b": (&Dump{Options: all, PID: 7, Parent: "../p", LeaveRunning: true,
			SkipInFlight: true, LinkRemap: true, PageServer: "[::1]:9", StatusFD: 5, Freezer: "/f", External: []string{"a", "b"}}).Args(),
		"criu pre-dump --tree 7 --images-dir /i --work-dir /w -v4 --log-file dump.log --manage-cgroups=soft --track-mem --page-server --address h --port 9": (&Dump{
			Options: o, PID: 7, Pre: true, LeaveRunning: true, PageServer: "h:9"}).Args(),
		"criu restore --restore-detached --restore-sibling --pidfile /p --root /r --images-dir /i --work-dir /w -v4 --log-file restore.log --manage-cgroups=soft " +
			"--cgroup-root /g --lsm-profile apparmor:x --lsm-mount-context c --external e --join-ns ipc:/n --inherit-fd fd[3]:k": (&Restore{Options: o, Root: "/r",
			PIDFile: "/p", CgroupRoots: []string{"/g"}, External: []string{"e"}, Join: []string{"ipc:/n"}, Inherit: []string{"fd[3]:k"}, LSMProfile: "apparmor:x", LSMMountContext: "c"}).Args(),
	} {
		if line := strings.Join(got, " "); line != want {
			t.Errorf("%s\nwant %s", line, want)
		}
	}
}

func boundSpec() *specs.Spec {
	return &specs.Spec{
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/var/run/data/", Type: "bind", Source: "/srv/data/", Options: []string{"rbind"}},
			{Destination: "/var/run/data/tmp", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/etc/hosts", Type: "none", Source: "/c/hosts", Options: []string{"bind", "ro"}},
		},
		Linux: &specs.Linux{MaskedPaths: []string{"/proc/keys", "/proc/acpi", "/proc/none"}},
	}
}

// Mounts of the host are named by their place in the configuration, wherever that leads in
// the container; those below a bind are found, and those of the configuration are not
// among them.
func TestMounts(t *testing.T) {
	table := []Mount{
		{ID: 1, Point: "/", Root: "/c/rootfs", Type: "ext4"},
		{ID: 2, Point: "/proc", Root: "/", Type: "proc"},
		{ID: 3, Point: "/run/data", Root: "/srv/data", Type: "ext4"},
		{ID: 4, Point: "/run/data/more", Root: "/", Type: "xfs"},
		{ID: 5, Point: "/run/data/tmp", Root: "/", Type: "tmpfs"},
		{ID: 6, Point: "/etc/hosts", Root: "/c/hosts", Type: "ext4"},
		{ID: 7, Point: "/proc/keys", Root: "/null", Type: "devtmpfs"},
		{ID: 8, Point: "/proc/acpi", Root: "/", Type: "tmpfs"},
	}
	on := map[string]int{"/proc": 2, "/var/run/data": 3, "/var/run/data/tmp": 5, "/etc/hosts": 6, "/proc/keys": 7, "/proc/acpi": 8}
	got, err := DumpMounts(boundSpec(), table, on)
	want := []string{"mnt[/run/data]:/var/run/data", "mnt[/run/data/more]:/var/run/data/more", "mnt[/etc/hosts]:/etc/hosts", "mnt[/proc/keys]:/dev/null"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v\nwant %q", got, err, want)
	}
	got, err = RestoreMounts(boundSpec(), []string{"/", "/srv", "/srv/data/more", "/srv/database"})
	want = []string{"mnt[/var/run/data]:/srv/data", "mnt[/var/run/data/more]:/srv/data/more", "mnt[/etc/hosts]:/c/hosts", "mnt[/dev/null]:/dev/null"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v\nwant %q", got, err, want)
	}
	delete(on, "/etc/hosts")
	if _, err := DumpMounts(boundSpec(), table, on); err == nil || !strings.Contains(err.Error(), "/mounts/3: nothing is mounted at /etc/hosts") {
		t.Errorf("a bind that is gone: %v", err)
	}
}

// With a user namespace the devices are binds of the host's, each named once, and the network is criu's to make.
func TestUserNamespace(t *testing.T) {
	ids := []specs.LinuxIDMapping{{ContainerID: 1, HostID: 5000, Size: 70000}, {HostID: 900, Size: 1}}
	spec := &specs.Spec{Linux: &specs.Linux{UIDMappings: ids, GIDMappings: ids, MaskedPaths: []string{"/proc/keys"},
		Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}},
		Devices:    []specs.LinuxDevice{{Path: "/dev/zero", Type: "c"}, {Path: "/dev/fuse", Type: "c"}, {Path: "/dev/pipe", Type: "p"}}}}
	if err := CheckNamespaces(spec); err != nil {
		t.Fatal(err)
	}
	if got := ExternalNamespaces(spec); len(got) > 0 {
		t.Errorf("external: %v", got)
	}
	if id, ok := Mapped(ids, 10); id != 5009 || !ok {
		t.Errorf("10 is %d, %v", id, ok)
	}
	if id, ok := Mapped(ids, 70001); ok {
		t.Errorf("70001 is %d", id)
	}
	table := []Mount{{ID: 1, Point: "/dev/null"}, {ID: 2, Point: "/dev/zero"}, {ID: 3, Point: "/dev/fuse"}, {ID: 4, Point: "/dev/pipe"}, {ID: 5, Point: "/proc/keys", Root: "/null"}}
	dump, err := DumpMounts(spec, table, map[string]int{"/proc/keys": 5})
	want := []string{"mnt[/dev/null]:/dev/null", "mnt[/dev/zero]:/dev/zero", "mnt[/dev/fuse]:/dev/fuse", "mnt[/proc/keys]:/dev/null"}
	if err != nil || !slices.Equal(dump, want) {
		t.Errorf("dump %q, want %q, error %v", dump, want, err)
	}
	back, err := RestoreMounts(spec, nil)
	want = []string{"mnt[/dev/null]:/dev/null", "mnt[/dev/zero]:/dev/zero", "mnt[/dev/full]:/dev/full", "mnt[/dev/random]:/dev/random",
		"mnt[/dev/urandom]:/dev/urandom", "mnt[/dev/tty]:/dev/tty", "mnt[/dev/zero]:/dev/zero", "mnt[/dev/fuse]:/dev/fuse"}
	if err != nil || !slices.Equal(back, want) {
		t.Errorf("restore %q, want %q, error %v", back, want, err)
	}
	args := (&Dump{Options: Options{EmptyNetwork: true}}).Args()
	if !slices.Contains(args, "--empty-ns=net") {
		t.Errorf("%q", args)
	}
}

// A name cannot say more than a name.
func TestBracketsAreRefused(t *testing.T) {
	spec := boundSpec()
	spec.Mounts[3].Destination = "/x]:/etc"
	if _, err := RestoreMounts(spec, nil); err == nil {
		t.Error("restore: not refused")
	}
	if _, err := DumpMounts(spec, nil, nil); err == nil {
		t.Error("dump: not refused")
	}
}

// What a checkpoint says of descriptors is taken for a name, if it has the form of one,
// and else for nothing.
func TestDescriptorsOfACheckpointAreNotBelieved(t *testing.T) {
	names := []string{"pipe:[12]", "file[1a:4]", "pipe:[12]", "/dev/null", "tty[8803:19]", "socket:[7]", "pipe:[]", "pipe:[1", "pipe:[1] --root /",
		"extRootNetNS", "file[../x]", "pipe:[1]:x]", "", "mnt[1]"}
	got, want := InheritDescriptors(names, 20), []string{"fd[20]:pipe:[12]", "fd[21]:file[1a:4]", "fd[24]:tty[8803:19]", "fd[25]:socket:[7]"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := DumpDescriptors(names[:5]), []string{"file[1a:4]", "tty[8803:19]"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Which namespaces are in a checkpoint, and which come from elsewhere.
func TestNamespaces(t *testing.T) {
	spec := &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
		{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.PIDNamespace, Path: "/p"}, {Type: specs.IPCNamespace, Path: "/i"}, {Type: specs.UTSNamespace}}}}
	if err := CheckNamespaces(spec); err != nil {
		t.Error(err)
	}
	got := DumpNamespaces(spec, map[specs.LinuxNamespaceType]uint64{specs.NetworkNamespace: 5, specs.PIDNamespace: 6})
	if want := []string{"net[5]:extRootNetNS", "pid[6]:extRootPidNS"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := JoinNamespaces(spec), []string{"ipc:/i"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for words, list := range map[string][]specs.LinuxNamespace{
		"without a mount namespace": {{Type: specs.PIDNamespace}},
		"the ids 0 and 65534":       {{Type: specs.MountNamespace}, {Type: specs.UserNamespace}},
		"the user namespace /u":     {{Type: specs.MountNamespace}, {Type: specs.UserNamespace, Path: "/u"}},
		"cannot enter the mount":    {{Type: specs.MountNamespace, Path: "/m"}},
		"cannot enter the cgroup":   {{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace, Path: "/c"}},
	} {
		if err := CheckNamespaces(&specs.Spec{Linux: &specs.Linux{Namespaces: list}}); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
	}
}
