package linux

import (
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/plan"
)

// StartUnit asks systemd for a transient unit, and waits until it runs: the method
// StartTransientUnit of org.freedesktop.systemd1(5). With User it is the manager of the
// calling user.
//
// A property is its name, the D-Bus signature of its value and the words of the value,
// as busctl(1) takes them: "MemoryMax t 67108864". Words with spaces in them are quoted
// as in Go; see Property and SplitProperty. The process in PID becomes a property too,
// the first.
type StartUnit struct {
	User       bool
	Unit       string
	PID        plan.Reg
	Properties []string
}

func (StartUnit) Name() string { return "StartTransientUnit" }

func (c StartUnit) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Unit), plan.Value(c.PID), plan.Strings(c.Properties))
}

// Text is the action as a shell command.
func (c StartUnit) Text() string { return c.Command("$" + string(c.PID)) }

// Command is Text for a process whose number the shell word pid stands for.
func (c StartUnit) Command(pid string) string {
	return callManager(c.User, "StartTransientUnit", "'ssa(sv)a(sa(sv))'", quote(c.Unit)+" fail", "PIDs au 1 "+pid, c.Properties) + " 0"
}

// SetUnit changes properties of a living unit until it ends: SetUnitProperties.
type SetUnit struct {
	User       bool
	Unit       string
	Properties []string
}

func (SetUnit) Name() string { return "SetUnitProperties" }

func (c SetUnit) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Unit), plan.Strings(c.Properties))
}

// Text is the action as a shell command.
func (c SetUnit) Text() string {
	return callManager(c.User, "SetUnitProperties", "'sba(sv)'", quote(c.Unit)+" true", "", c.Properties)
}

// StopUnit ends a unit and waits until it is gone: StopUnit. One that is gone already
// is no error. It is the inverse of StartUnit.
type StopUnit struct {
	User bool
	Unit string
}

func (StopUnit) Name() string { return "StopUnit" }

func (c StopUnit) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, plan.String(c.Unit)) }

// Text is the action as a shell command.
func (c StopUnit) Text() string {
	if c.User {
		return "systemctl --user stop " + quote(c.Unit)
	}
	return "systemctl stop " + quote(c.Unit)
}

// callManager is a method call as busctl(1) makes it.
func callManager(user bool, method, signature, operands, extra string, properties []string) string {
	var b strings.Builder
	b.WriteString("busctl ")
	if user {
		b.WriteString("--user ")
	}
	b.WriteString("call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager ")
	b.WriteString(method + " " + signature + " " + operands)
	count := len(properties)
	if extra != "" {
		count++
	}
	b.WriteString(" " + strconv.Itoa(count))
	if extra != "" {
		b.WriteString(" " + extra)
	}
	for _, p := range properties {
		words, _ := SplitProperty(p) // what cannot be split is not printed; a planner made it with Property
		for _, w := range words {
			b.WriteString(" " + quote(w))
		}
	}
	return b.String()
}

// Property joins a property's words.
func Property(words ...string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if w == "" || strings.ContainsAny(w, " \"\\\t\n\r\x00") {
			w = strconv.Quote(w)
		}
		b.WriteString(w)
	}
	return b.String()
}

// SplitProperty takes a property apart into its words, at least a name and a signature.
// ok is false if that cannot be done.
func SplitProperty(property string) (words []string, ok bool) {
	for rest := property; rest != ""; {
		var w string
		if rest[0] == '"' {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, false
			}
			w, _ = strconv.Unquote(quoted) // QuotedPrefix has looked
			rest = strings.TrimPrefix(rest[len(quoted):], " ")
		} else {
			w, rest, _ = strings.Cut(rest, " ")
		}
		words = append(words, w)
	}
	return words, len(words) >= 2
}
