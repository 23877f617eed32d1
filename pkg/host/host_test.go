package host

import "testing"

func TestParseKernel(t *testing.T) {
	for release, want := range map[string]Kernel{
		"6.18.5":                        {6, 18},
		"5.10.0-28-amd64":               {5, 10},
		"5.15.167.4-microsoft-standard": {5, 15},
		"6.1.0-rc3+":                    {6, 1},
		"4.18.0-553.el8_10.x86_64":      {4, 18},
		"2.6.78":                        {2, 6},
	} {
		k, err := ParseKernel(release)
		if err != nil || k != want {
			t.Errorf("%s is %v (%v), want %v", release, k, err, want)
		}
	}
	for _, release := range []string{"", "6", "six.one", ".1", "6."} {
		if k, err := ParseKernel(release); err == nil {
			t.Errorf("%q is %v, want an error", release, k)
		}
	}
}

func TestKernelsAreOrdered(t *testing.T) {
	for _, c := range []struct {
		kernel       Kernel
		major, minor int
		want         bool
	}{
		{Kernel{5, 10}, 5, 10, true}, {Kernel{5, 9}, 5, 10, false}, {Kernel{4, 20}, 5, 10, false},
		{Kernel{6, 0}, 5, 10, true}, {Kernel{6, 0}, 6, 1, false},
	} {
		if got := c.kernel.AtLeast(c.major, c.minor); got != c.want {
			t.Errorf("%v is at least %d.%d: %v", c.kernel, c.major, c.minor, got)
		}
	}
}

func TestFindMount(t *testing.T) {
	const table = "22 1 0:5 / / rw - ext4 /dev/a rw\n40 22 0:30 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw\n"
	if got := findMount(table, "resctrl"); got != "/sys/fs/resctrl" {
		t.Errorf("resctrl is found at %q", got)
	}
	if got := findMount(table, "ext"); got != "" {
		t.Errorf("a type is found by its beginning: %q", got)
	}
}
