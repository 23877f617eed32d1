package container

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxIDMapLines is how many lines the kernel takes in uid_map and gid_map:
// user_namespaces(7), 340 since Linux 4.15.
const maxIDMapLines = 340

// ParseIDMap reads one value of --uidmap or --gidmap: CONTAINER:HOST[:SIZE], the
// first id inside, the first id outside, and how many; the size is 1 if it is
// left out.
func ParseIDMap(s string) (specs.LinuxIDMapping, error) {
	parts := strings.Split(s, ":")
	if len(parts) == 2 {
		parts = append(parts, "1")
	}
	if len(parts) != 3 {
		return specs.LinuxIDMapping{}, fmt.Errorf("id map %q: not CONTAINER:HOST[:SIZE]", s)
	}
	var n [3]uint64
	for i, p := range parts {
		var err error
		if n[i], err = strconv.ParseUint(p, 10, 32); err != nil {
			return specs.LinuxIDMapping{}, fmt.Errorf("id map %q: %q is not a number from 0 to %d", s, p, uint32(math.MaxUint32))
		}
	}
	// The last id, 2^32-1, means "no id" to the kernel.
	if n[2] == 0 || n[0]+n[2] > math.MaxUint32 || n[1]+n[2] > math.MaxUint32 {
		return specs.LinuxIDMapping{}, fmt.Errorf("id map %q: the range is empty or goes beyond %d", s, uint32(math.MaxUint32-1))
	}
	return specs.LinuxIDMapping{ContainerID: uint32(n[0]), HostID: uint32(n[1]), Size: uint32(n[2])}, nil
}

// validateIDMaps checks what the kernel would refuse with a bare EINVAL.
func validateIDMaps(flag string, maps []specs.LinuxIDMapping) error {
	if len(maps) > maxIDMapLines {
		return fmt.Errorf("%s: %d ranges: the kernel takes %d", flag, len(maps), maxIDMapLines)
	}
	for i, a := range maps {
		for _, b := range maps[:i] {
			if overlap(a.ContainerID, b.ContainerID, a.Size, b.Size) || overlap(a.HostID, b.HostID, a.Size, b.Size) {
				return fmt.Errorf("%s: ranges %s and %s overlap", flag, formatIDMap(b), formatIDMap(a))
			}
		}
	}
	return nil
}

func overlap(a, b, sizeA, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}

func formatIDMap(m specs.LinuxIDMapping) string {
	return fmt.Sprintf("%d:%d:%d", m.ContainerID, m.HostID, m.Size)
}

// mapped reports whether the id of the container exists outside.
func mapped(id uint32, maps []specs.LinuxIDMapping) bool {
	for _, m := range maps {
		if id >= m.ContainerID && uint64(id) < uint64(m.ContainerID)+uint64(m.Size) {
			return true
		}
	}
	return false
}
