package container

import (
	"slices"
	"testing"
)

// What -v says of programs and devices holds for the mounts below a path too, where the kernel can do that.
func TestBindAttributesHoldBelow(t *testing.T) {
	for s, want := range map[string]string{"/a:/b:noexec": "rnoexec", "/a:/b:bind,nosuid": "nosuid"} {
		m, err := ParseVolume(s, "/")
		if err != nil {
			t.Fatal(err)
		}
		in := Inputs{Machine: Machine{RecursiveReadOnly: true}}
		if got := specMount(m, in).Options; !slices.Contains(got, want) {
			t.Errorf("%s: %v", s, got)
		}
		in.Machine.RecursiveReadOnly = false
		if got := specMount(m, in).Options; slices.Contains(got, "rnoexec") {
			t.Errorf("%s on an old kernel: %v", s, got)
		}
	}
}
