// Package version2 runs the tests of package callers in a virtual machine, where all cgroups are version 2 and root
// has every capability. It is apart from them because the machine's packages are fetched from the network, which they
// do not have.
package version2

import (
	"cmp"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit/guest"
)

// TestCallers runs them with the packages of Debian 12.
func TestCallers(t *testing.T) {
	const runtime, containr = "/usr/local/bin/containr-runtime", "/usr/local/bin/containr"
	for _, c := range []struct {
		name, tests string
		packages    []string
		kernel      string // that of Debian 13 unless told otherwise
	}{
		{"containerd", "TestContainerd", []string{"containerd"}, ""},
		{"docker", "TestDocker", []string{"docker.io", "apparmor", "iptables", "iproute2"}, ""},
		{"podman", "TestPodman|TestPodmanOfAUser|TestBuildah", []string{"podman", "buildah", "catatonit", "uidmap", "iptables", "iproute2"}, ""},
		// Debian 12's CRIU is for its own kernel.
		{"checkpoint", "TestPodmanCheckpoint", []string{"podman", "criu", "tar", "gzip", "iptables", "iproute2"}, "debian-6.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			guest.Run(t, guest.Options{
				Kernel: cmp.Or(c.kernel, "debian-6.12"), Package: "github.com/containr/containr/test/callers", Run: "^(" + c.tests + ")$",
				Programs: map[string]string{
					runtime:  "github.com/containr/containr/cmd/containr-runtime",
					containr: "github.com/containr/containr/cmd/containr",
				},
				Env:      []string{"CONTAINR_TEST_RUNTIME=" + runtime, "CONTAINR_TEST_CONTAINR=" + containr},
				Packages: c.packages, Timeout: 15 * time.Minute,
			})
		})
	}
}
