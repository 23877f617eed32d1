package host

import (
	"errors"
	"strings"
	"testing"
)

func TestChooseSnapshotter(t *testing.T) {
	old, recent := Kernel{5, 10}, Kernel{6, 1}
	served, noDevice := Storage{"", true, "/usr/bin/fuse-overlayfs", true, false, false}, Storage{"", true, "/usr/bin/fuse-overlayfs", false, false, false}
	for _, c := range []struct {
		name      string
		kernel    Kernel
		on        Storage
		inUser    bool
		asked     string
		want, why string // why, or with no want the error
	}{
		{"usual", recent, Storage{FileSystem: "", Overlay: true}, false, "", "overlay", ""},
		{"user", recent, Storage{FileSystem: "", Overlay: true}, true, "auto", "overlay", ""},
		{"user of an old kernel", old, Storage{FileSystem: "", Overlay: true}, true, "", "native", "overlay: Linux 5.10 lets only root"},
		{"root of an old kernel", old, Storage{FileSystem: "", Overlay: true}, false, "", "overlay", ""},
		{"user of an old kernel, with the program", old, served, true, "", "fuse-overlayfs", "overlay: Linux 5.10 lets only root"},
		{"the same without the device", old, noDevice, true, "", "native", "overlay: Linux 5.10 lets only root"},
		{"on btrfs, with the program", old, Storage{"btrfs", true, "/usr/bin/fuse-overlayfs", true, false, false}, true, "", "btrfs", "overlay: Linux 5.10 lets only root"},
		{"the program wanted", recent, served, false, "fuse-overlayfs", "fuse-overlayfs", "it was asked for"},
		{"the program wanted, and not there", recent, Storage{FileSystem: "", Overlay: true, FuseDevice: true}, false, "fuse-overlayfs", "", "cannot be used here: the program fuse-overlayfs is not installed"},
		{"the device wanted, and not there", recent, noDevice, false, "fuse-overlayfs", "", "/dev/fuse is not there"},
		{"the program wanted on an overlay", recent, Storage{"overlay", true, "/usr/bin/fuse-overlayfs", true, true, false}, false, "fuse-overlayfs", "", "means nothing to fuse-overlayfs"},
		{"in a container", recent, Storage{FileSystem: "overlay", Overlay: true}, false, "", "native", "overlay: the state root is on overlay"},
		{"no overlay, on btrfs", recent, Storage{FileSystem: "btrfs", Overlay: false}, false, "", "btrfs", "overlay: the kernel has no overlay"},
		{"on btrfs", recent, Storage{FileSystem: "btrfs", Overlay: true}, false, "", "overlay", ""},
		{"btrfs wanted", recent, Storage{FileSystem: "btrfs", Overlay: true}, false, "btrfs", "btrfs", "it was asked for"},
		{"native wanted", recent, Storage{FileSystem: "", Overlay: true}, false, "native", "native", "it was asked for"},
		{"btrfs wanted elsewhere", recent, Storage{FileSystem: "", Overlay: true}, false, "btrfs", "", "snapshotter btrfs: snapshotter cannot be used here: the state root is not on a btrfs"},
		{"overlay wanted on an overlay", recent, Storage{FileSystem: "overlay", Overlay: true}, false, "overlay", "", "the state root is on overlay"},
		{"images wanted", Kernel{6, 12}, Storage{FileSystem: "ext4", Overlay: true, Erofs: true}, false, "erofs", "erofs", "it was asked for"},
		{"images wanted, not in the kernel", Kernel{6, 12}, Storage{FileSystem: "ext4", Overlay: true}, false, "erofs", "", "the kernel has no EROFS"},
		{"images wanted, of an older kernel", Kernel{6, 11}, Storage{FileSystem: "ext4", Overlay: true, Erofs: true}, false, "erofs", "", "Linux 6.11 mounts EROFS images from block devices only"},
		{"images wanted in memory", Kernel{6, 12}, Storage{FileSystem: "tmpfs", Overlay: true, Erofs: true}, false, "erofs", "", "the state root is on tmpfs"},
		{"images wanted for others", Kernel{6, 12}, Storage{FileSystem: "ext4", Overlay: true, Erofs: true}, true, "erofs", "", "only the host's root"},
		{"images wanted on an overlay", Kernel{6, 12}, Storage{FileSystem: "overlay", Overlay: true, Erofs: true}, false, "erofs", "", "the state root is on overlay"},
		{"unknown", recent, Storage{FileSystem: "", Overlay: true}, false, "zfs", "", `snapshotter "zfs": snapshotter cannot be used here: use auto, overlay`},
	} {
		f := &Facts{Kernel: c.kernel}
		if c.asked == ErofsSnapshotter {
			f.Capabilities = 1 << 21 // root's
		}
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

// An ordinary user is told what root could do.
func TestErofsTakesRoot(t *testing.T) {
	user := &Facts{Kernel: Kernel{6, 12}, UID: 1000}
	_, _, err := ChooseSnapshotter(user.Snapshotters(Storage{FileSystem: "ext4", Overlay: true, Erofs: true}, true), ErofsSnapshotter)
	if !errors.Is(err, ErrSnapshotter) || !strings.Contains(err.Error(), "only root mounts EROFS images") {
		t.Errorf("error %v", err)
	}
}

// Root may open what others may not; the root of a container with other users cannot.
func TestFuseOfAnotherUser(t *testing.T) {
	root := &Facts{Kernel: Kernel{5, 10}, Capabilities: 1 << 21}
	for forAll, want := range map[bool]string{false: "native", true: "fuse-overlayfs"} {
		s, _, err := ChooseSnapshotter(root.Snapshotters(Storage{"", true, "/usr/bin/fuse-overlayfs", true, forAll, false}, true), "")
		if err != nil || s.Name != want {
			t.Errorf("everybody may open /dev/fuse: %v: %s, error %v, want %s", forAll, s.Name, err, want)
		}
	}
}
