package runtime

import (
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
)

// ownNetwork gives the test's thread a network of its own, which ends with it.
func ownNetwork(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skipf("ip is not installed: %v", err)
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func ip(t *testing.T, args string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Skipf("ip %s: %v: %s", args, err, out)
	}
	return string(out)
}

// linkedSpec is a container with the network devices.
func linkedSpec(devices map[string]specs.LinuxNetDevice) *specs.Spec {
	spec := exampleSpec("/probe")
	spec.Linux.NetDevices = devices
	return spec
}

func compileLinked(t *testing.T, spec *specs.Spec) *plan.Plan {
	t.Helper()
	links, err := ProbeLinks(spec)
	if err != nil {
		t.Fatal(err)
	}
	return compileInput(t, Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t), Links: links})
}

// A device comes with its addresses, its hardware address and its MTU, under its new
// name, and is up; with and without a user namespace.
func TestNetworkDevices(t *testing.T) {
	for name, users := range map[string]bool{"root": false, "user namespace": true} {
		t.Run(name, func(t *testing.T) { checkNetworkDevices(t, users) })
	}
}

func checkNetworkDevices(t *testing.T, users bool) {
	t.Helper()
	ownNetwork(t)
	testkit.Leftovers(t)
	ip(t, "link add name veth-a mtu 1400 address 02:00:00:00:00:0a type veth peer name veth-b")
	ip(t, "link set veth-b up")
	ip(t, "link add name veth-c type veth peer name veth-d")
	ip(t, "address add 10.9.0.2/24 broadcast 10.9.0.255 dev veth-a")
	ip(t, "address add 10.9.1.2 peer 10.9.1.3 dev veth-a")
	ip(t, "address add fd00:9::2/64 dev veth-a nodad")
	ip(t, "address add 10.9.2.2/24 scope link dev veth-a")
	spec := linkedSpec(map[string]specs.LinuxNetDevice{"veth-a": {Name: "eth0"}, "veth-c": {Name: "net%d"}})
	if users {
		l := userSpec().Linux
		spec.Linux.Namespaces, spec.Linux.UIDMappings, spec.Linux.GIDMappings = l.Namespaces, l.UIDMappings, l.GIDMappings
	}
	res, err := runPlan(t, compileLinked(t, spec))
	if err != nil {
		t.Fatal(err)
	}
	r := testkit.Report(t, res.out)
	var names []string
	for _, l := range r.Links {
		names = append(names, l.Name)
		if !l.Up {
			t.Errorf("%s is down", l.Name)
		}
		if l.Name != "eth0" {
			continue
		}
		if l.MTU != 1400 || l.HardwareAddr != "02:00:00:00:00:0a" {
			t.Errorf("%+v: want MTU 1400 and the old hardware address", l)
		}
		for _, want := range []string{"10.9.0.2/24", "10.9.1.2", "fd00:9::2/64"} {
			if !slices.ContainsFunc(l.Addrs, func(a string) bool { return strings.HasPrefix(a, want) }) {
				t.Errorf("eth0 has %v: not %s", l.Addrs, want)
			}
		}
		if slices.Contains(l.Addrs, "10.9.2.2/24") {
			t.Error("an address of link scope has come along")
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"eth0", "lo", "net0"}) {
		t.Errorf("devices %v", names)
	}
	if out := ip(t, "-o link show"); strings.Contains(out, "veth-a") {
		t.Errorf("the host still has the device: %s", out)
	}
}

// A name that is taken in the container is an error with a hint.
func TestNetworkDeviceThatCollides(t *testing.T) {
	ownNetwork(t)
	testkit.Leftovers(t)
	ip(t, "link add name veth-a type veth peer name veth-b")
	_, err := runPlan(t, compileLinked(t, linkedSpec(map[string]specs.LinuxNetDevice{"veth-a": {Name: "lo"}})))
	if err == nil || !strings.Contains(Hint(err), "of that name") {
		t.Errorf("error %v, hint %q", err, Hint(err))
	}
	if out := ip(t, "-o link show"); !strings.Contains(out, "veth-a") {
		t.Errorf("the device is gone: %s", out)
	}
	ip(t, "link delete veth-a")
}

func TestNetworkDevicesThatCannotBe(t *testing.T) {
	links := map[string]host.Link{"a": {Index: 1}, "b": {Index: 2}}
	for want, devices := range map[string]map[string]specs.LinuxNetDevice{
		"no such network device": {"c": {}},
		"too":                    {"a": {Name: "x"}, "b": {Name: "x"}},
		"longer than 15":         {"a": {Name: "abcdefghijklmnop"}},
		"no name":                {"a": {Name: "a/b"}},
		"only one %d":            {"a": {Name: "a%d%d"}},
	} {
		_, err := Compile(Input{ID: "x", Root: "/rootfs", Spec: linkedSpec(devices), Links: links, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12})})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "/linux/netDevices/") {
			t.Errorf("error %v: want one with %q", err, want)
		}
	}
	spec := linkedSpec(map[string]specs.LinuxNetDevice{"a": {}})
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	wantRefusal(t, spec, "no network namespace")
}
