package snapshot

import (
	"fmt"
	"strings"

	"github.com/containr/containr/internal/untrusted"
)

// Limits bounds what one layer may cost. Zero fields mean the default.
type Limits struct {
	// Bytes bounds the sum of the sizes of all files, holes included, and the
	// length of the uncompressed archive. Default [untrusted.LayerBytes], 256 GiB.
	Bytes int64
	// Entries bounds how many entries the archive has. Default 8 Mi.
	Entries int64
	// Notes bounds, in bytes, what must be remembered of a layer until its
	// end: names and attributes of directories, whiteouts and hard links.
	// Default 256 MiB.
	Notes int64
	// Depth bounds how many components a name has. Default 512.
	Depth int
	// Name bounds the length of a name in bytes. Default, and at most, 4095:
	// longer ones could be made, but opened by nobody (PATH_MAX).
	Name int
}

const maxName = 4095

// defaults is where the limits are that apply unless others are given.
func (l Limits) defaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = untrusted.LayerBytes
	}
	if l.Entries == 0 {
		l.Entries = 8 << 20
	}
	if l.Notes == 0 {
		l.Notes = 256 << 20
	}
	if l.Depth == 0 {
		l.Depth = 512
	}
	if l.Name == 0 || l.Name > maxName {
		l.Name = maxName
	}
	return l
}

// LimitError says that a layer exceeds one of [Limits].
type LimitError struct {
	Limit string // name of the field of Limits
	Max   int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("layer exceeds the limit %s = %d", e.Limit, e.Max)
}

// name checks a cleaned name.
func (l Limits) name(name string) error {
	if len(name) > l.Name {
		return &LimitError{"Name", int64(l.Name)}
	}
	if strings.Count(name, "/") >= l.Depth {
		return &LimitError{"Depth", int64(l.Depth)}
	}
	return nil
}
