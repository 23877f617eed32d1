// Package doctor says what this machine can and cannot do for containers, why, and what to type to mend it.
//
// # Vocabulary
//
// A machine is what was found, as data. A check is one question about it. A finding is the answer: a state, the reason,
// and, unless all is well, the line that mends it.
//
// # Theory of operation
//
// Looking and judging are apart. Probe (probe_linux.go) asks the kernel and reads files, and judges nothing. Examine is a
// pure function of what Probe found: it goes down the table of checks. So a test writes down any machine, an old Debian or an
// ordinary user of Ubuntu, and compares what is said of it with a golden file.
//
// A check is asked only of those whom it concerns: subordinate ids do not concern root. The state Missing of a check that
// is marked as needed means that no container can be run here; everything else only takes something away.
//
// A line that mends is to be pasted: it names the user, the file and the distribution's own package.
package doctor

import "github.com/containr/containr/pkg/host"

// State is how it stands with one thing.
type State string

// The three states.
const (
	OK      State = "ok"
	Limited State = "limited" // containers run, but something cannot be had, or is slower
	Missing State = "missing" // it is not there
)

// Finding is the answer to one check.
type Finding struct {
	// Group is the chapter of the report, Check the name of the check, which never changes.
	Group, Check string
	State        State
	// Why says what was found and what follows from it.
	Why string
	// Mend is what to type, or what to do in words; empty if all is well or nothing helps.
	Mend string
	// Needed says that without it no container can be run.
	Needed bool
}

// Stops reports whether the finding means that no container can be run.
func (f Finding) Stops() bool { return f.Needed && f.State == Missing }

// check is one question. ask answers with a state, the reason, and what mends it.
type check struct {
	group, name string
	// whom it concerns: nil is everybody.
	concerns func(*Machine) bool
	needed   bool
	ask      func(*Machine) (State, string, string)
}

// Examine answers every check that concerns the machine's user, in the order of the report.
func Examine(m *Machine) []Finding {
	var all []Finding
	for _, list := range [][]check{kernelChecks, groupChecks, userChecks, securityChecks, networkChecks, storageChecks, programChecks} {
		for _, c := range list {
			if c.concerns != nil && !c.concerns(m) {
				continue
			}
			f := Finding{Group: c.group, Check: c.name, Needed: c.needed}
			f.State, f.Why, f.Mend = c.ask(m)
			all = append(all, f)
		}
	}
	return append(all, registryFindings(m)...)
}

// CanRun reports whether none of the findings keeps containers from running.
func CanRun(findings []Finding) bool {
	for _, f := range findings {
		if f.Stops() {
			return false
		}
	}
	return true
}

func root(m *Machine) bool     { return m.Facts.Root() }
func ordinary(m *Machine) bool { return !m.Facts.Root() }

func version2(m *Machine) bool { return m.Facts.CgroupMode == host.CgroupV2 }
