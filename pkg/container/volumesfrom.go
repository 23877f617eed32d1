package container

import (
	"fmt"
	"slices"
	"strings"
)

// VolumesFrom names a container whose mounts another one is to have.
type VolumesFrom struct {
	// Container is its name, its id or the beginning of its id.
	Container string `json:"container"`
	// ReadOnly and ReadWrite have them all so; neither leaves each as it is there.
	ReadOnly  bool `json:"readOnly,omitempty"`
	ReadWrite bool `json:"readWrite,omitempty"`
}

// ParseVolumesFrom reads CONTAINER[:ro|rw].
func ParseVolumesFrom(s string) (VolumesFrom, error) {
	name, mode, moded := strings.Cut(s, ":")
	v := VolumesFrom{Container: name, ReadOnly: mode == "ro", ReadWrite: mode == "rw"}
	if name == "" || moded && !v.ReadOnly && !v.ReadWrite {
		return v, fmt.Errorf("%q: use CONTAINER, CONTAINER:ro or CONTAINER:rw", s)
	}
	return v, nil
}

// Add returns mounts and those of the other container, theirs, that are not on the same
// target.
func (v VolumesFrom) Add(mounts, theirs []Mount) []Mount {
	for _, m := range theirs {
		if slices.ContainsFunc(mounts, func(own Mount) bool { return own.Target == m.Target }) {
			continue
		}
		m.ReadOnly = (m.ReadOnly || v.ReadOnly) && !v.ReadWrite
		mounts = append(mounts, m)
	}
	return mounts
}
