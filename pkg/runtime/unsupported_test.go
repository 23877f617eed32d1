package runtime

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
)

// A container that is less confined than its configuration says, or less able, is
// worse than none: what is not supported is an error that names the field.
func TestUnsupportedIsRefused(t *testing.T) {
	for field, ask := range map[string]func(*specs.Spec){
		"/linux/intelRdt": func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "a"} },
	} {
		t.Run(field, func(t *testing.T) {
			spec := exampleSpec("/bin/sh")
			ask(spec)
			_, err := Compile(Input{ID: "x", Root: "/rootfs", Spec: spec, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12}),
				Sources: map[string]host.Source{"/srv": {Kind: host.Directory}}})
			if err == nil || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), "not supported") {
				t.Errorf("error %v: want one that names %s and says that it is not supported", err, field)
			}
		})
	}
}
