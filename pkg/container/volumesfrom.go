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
	// ReadOnly has them all so; otherwise each is as it is there. What is read-only there cannot be had otherwise.
	ReadOnly bool `json:"readOnly,omitempty"`
}

// ParseVolumesFrom reads CONTAINER[:ro|rw]. As with docker rw is what is so without it.
func ParseVolumesFrom(s string) (VolumesFrom, error) {
	name, mode, moded := strings.Cut(s, ":")
	v := VolumesFrom{Container: name, ReadOnly: mode == "ro"}
	if name == "" || moded && mode != "ro" && mode != "rw" {
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
		m.ReadOnly = m.ReadOnly || v.ReadOnly
		mounts = append(mounts, m)
	}
	return mounts
}
