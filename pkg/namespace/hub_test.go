package namespace

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestTranslate: ids of the host are those of the hub, whatever pieces the maps are in, and others are refused.
func TestTranslate(t *testing.T) {
	type m = specs.LinuxIDMapping
	hub := []m{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 10}, {ContainerID: 11, HostID: 100010, Size: 5}}
	for _, c := range []struct{ list, want []m }{
		{[]m{{ContainerID: 0, HostID: 1000, Size: 1}}, []m{{ContainerID: 0, HostID: 0, Size: 1}}},
		{[]m{{ContainerID: 5, HostID: 100008, Size: 4}}, []m{{ContainerID: 5, HostID: 9, Size: 2}, {ContainerID: 7, HostID: 11, Size: 2}}},
		{[]m{{ContainerID: 0, HostID: 100014, Size: 1}, {ContainerID: 1, HostID: 1000, Size: 1}}, []m{{ContainerID: 0, HostID: 15, Size: 1}, {ContainerID: 1, HostID: 0, Size: 1}}},
		{[]m{{ContainerID: 0, HostID: 100014, Size: 2}}, nil},
		{[]m{{ContainerID: 0, HostID: 0, Size: 1}}, nil},
	} {
		got, err := translate(c.list, hub)
		if (err != nil) != (c.want == nil) || err == nil && !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, %v; want %v", c.list, got, err, c.want)
		}
	}
}
