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

// ParseVolumesFrom reads CONTAINER[:OPTIONS], of the words ro, rw, z and Z with commas between them. As with docker rw is what is so
// without it, and z and Z mean nothing here, as with -v.
func ParseVolumesFrom(s string) (VolumesFrom, error) {
	name, mode, moded := strings.Cut(s, ":")
	v := VolumesFrom{Container: name}
	words := strings.Split(mode, ",")
	ro, rw := slices.Contains(words, "ro"), slices.Contains(words, "rw")
	unknown := moded && slices.ContainsFunc(words, func(w string) bool { return !slices.Contains([]string{"ro", "rw", "z", "Z"}, w) })
	if name == "" || unknown || ro && rw {
		return v, fmt.Errorf("%q: use CONTAINER, CONTAINER:ro or CONTAINER:rw", s)
	}
	v.ReadOnly = ro
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
