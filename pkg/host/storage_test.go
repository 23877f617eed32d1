package host

import (
	"errors"
	"strings"
	"testing"
)

func TestChooseSnapshotter(t *testing.T) {
	old, recent := Kernel{5, 10}, Kernel{6, 1}
	for _, c := range []struct {
		name      string
		kernel    Kernel
		on        Storage
		inUser    bool
		asked     string
		want, why string // why, or with no want the error
	}{
		{"usual", recent, Storage{"", true}, false, "", "overlay", ""},
		{"user", recent, Storage{"", true}, true, "auto", "overlay", ""},
		{"user of an old kernel", old, Storage{"", true}, true, "", "native", "overlay: Linux 5.10 lets only root"},
		{"root of an old kernel", old, Storage{"", true}, false, "", "overlay", ""},
		{"in a container", recent, Storage{"overlay", true}, false, "", "native", "overlay: the state root is on overlay"},
		{"no overlay, on btrfs", recent, Storage{"btrfs", false}, false, "", "btrfs", "overlay: the kernel has no overlay"},
		{"on btrfs", recent, Storage{"btrfs", true}, false, "", "overlay", ""},
		{"btrfs wanted", recent, Storage{"btrfs", true}, false, "btrfs", "btrfs", "it was asked for"},
		{"native wanted", recent, Storage{"", true}, false, "native", "native", "it was asked for"},
		{"btrfs wanted elsewhere", recent, Storage{"", true}, false, "btrfs", "", "snapshotter btrfs: snapshotter cannot be used here: the state root is not on a btrfs"},
		{"overlay wanted on an overlay", recent, Storage{"overlay", true}, false, "overlay", "", "the state root is on overlay"},
		{"unknown", recent, Storage{"", true}, false, "zfs", "", `snapshotter "zfs": snapshotter cannot be used here: use auto, overlay`},
	} {
		f := &Facts{Kernel: c.kernel}
		s, why, err := ChooseSnapshotter(f.Snapshotters(c.on, c.inUser), c.asked)
		if c.want == "" {
			if !errors.Is(err, ErrSnapshotter) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%s: error %v, want %s", c.name, err, c.why)
			}
			continue
		}
		if err != nil || s.Name != c.want || !strings.HasPrefix(why, c.why) || (why == "") != (c.why == "") {
			t.Errorf("%s: %s, since %q, error %v; want %s, since %q", c.name, s.Name, why, err, c.want, c.why)
		}
	}
}

// What the kernel cannot map is known beforehand, and what is not known is left to it.
func TestNoIDMap(t *testing.T) {
	for _, c := range []struct {
		kernel     Kernel
		fileSystem string
		want       string
	}{
		{Kernel{5, 10}, "", "need Linux 5.12, this is 5.10"},
		{Kernel{5, 12}, "", ""},
		{Kernel{5, 14}, "btrfs", "of btrfs need Linux 5.15"},
		{Kernel{5, 15}, "btrfs", ""},
		{Kernel{6, 1}, "tmpfs", "of tmpfs need Linux 6.3"},
		{Kernel{6, 3}, "tmpfs", ""},
		{Kernel{6, 18}, "overlay", "no id-mapped mounts of overlay"},
		{Kernel{6, 18}, "nfs", "no id-mapped mounts of nfs"},
	} {
		problem, mend := (&Facts{Kernel: c.kernel}).NoIDMap(c.fileSystem)
		if !strings.Contains(problem, c.want) || (problem == "") != (c.want == "") || (problem == "") != (mend == "") {
			t.Errorf("%q on %s: %q, mended by %q; want %q", c.fileSystem, c.kernel, problem, mend, c.want)
		}
	}
}
