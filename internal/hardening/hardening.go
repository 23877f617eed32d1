// Package hardening says what on this machine, and in the flags of its containers, makes an attack easier than it has to be.
//
// # Vocabulary
//
// A finding is one weakness: of the host, or of one container. It has an id that never changes, a level, the reason, and what
// mends it, which for a container is a flag of run. Nothing is found where all is well.
//
// # Theory of operation
//
// As in internal/doctor, looking and judging are apart. ProbeHost (probe_linux.go) reads files of the kernel and looks at modes;
// CheckHost and CheckContainer are pure functions of what was found and of a container's record. So tests write down a machine
// and compare what is said of it with a golden file.
//
// A container is judged by what was decided about it (its OCI specification) where there is one, not by what was asked for: the
// image decides, too. Of environment variables only names are looked at, and printed; a value never is.
package hardening

import "slices"

// Level is how bad a finding is.
type Level string

// The levels, the worst first.
const (
	High Level = "high" // who breaks into the container has the host, or nearly
	Warn Level = "warn" // a wall is missing that costs little to have
	Note Level = "note" // worth a thought
)

var levels = []Level{High, Warn, Note}

// AtLeast reports whether l is as bad as other, or worse.
func (l Level) AtLeast(other Level) bool {
	return slices.Index(levels, l) <= slices.Index(levels, other)
}

// Finding is one weakness.
type Finding struct {
	// ID is the check's, such as container.privileged.
	ID string
	// Container is the name of the container, empty for the host.
	Container string
	Level     Level
	// Why says what was found and what follows from it.
	Why string
	// Mend is a flag of run for a container, what to type for the host.
	Mend string
}

// Worst reports whether one of the findings is as bad as a level.
func Worst(findings []Finding, least Level) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Level.AtLeast(least) })
}
