package shell

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/shellword"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// final is how the inside part ends: commands that each execute the next.
type final struct {
	// root is the host path of the new root, and unmount the step that drops
	// the old one.
	root    path
	unmount *plan.Step
	// reasons are comments: what is done and by which option.
	reasons []string
	// wrappers come before prlimit, its options, and setpriv's.
	wrappers, limits, setpriv []string
	dropped                   uint64
	inheritable, ambient      uint64
	bounds, capset            bool
	filter                    string
	// env has the variables that the shell cannot set, exports the others, and
	// lost those that bash keeps for itself.
	env, exports, lost []string
	// signals says that ignored signals are to be reset.
	signals bool
	args    []string
}

// reason notes once why an option is there.
func (f *final) reason(s *plan.Step, option string) {
	text := remark(s.Why) + ": " + option
	for _, r := range f.reasons {
		if r == text {
			return
		}
	}
	f.reasons = append(f.reasons, text)
}

// wrap adds a command that executes what follows it.
func (f *final) wrap(s *plan.Step, text string) {
	f.reason(s, strings.TrimSuffix(text, " --"))
	f.wrappers = append(f.wrappers, text)
}

// privilege interprets the steps that end in the options of setpriv and of the
// commands before it.
func (w *writer) privilege(s *plan.Step) error {
	f := &w.final
	switch c := s.Call.(type) {
	case linux.Prctl:
		return w.prctl(s, c)
	case linux.Capset:
		f.capset, f.inheritable = true, c.Inheritable
		f.reason(s, "--inh-caps, and what execve makes of the bounding set")
	case linux.Setgroups:
		option := "--clear-groups"
		if len(c.Groups) > 0 {
			ids := make([]string, len(c.Groups))
			for i, g := range c.Groups {
				ids[i] = strconv.FormatUint(uint64(g), 10)
			}
			option = "--groups=" + strings.Join(ids, ",")
		}
		f.option(s, option)
	case linux.Setresgid:
		if !w.pivoted {
			w.birth.identity = append(w.birth.identity, s.Why)
			return nil
		}
		f.option(s, "--regid="+strconv.FormatUint(uint64(c.GID), 10))
	case linux.Setresuid:
		if !w.pivoted {
			w.birth.identity = append(w.birth.identity, s.Why)
			return nil
		}
		f.option(s, "--reuid="+strconv.FormatUint(uint64(c.UID), 10))
	case linux.Prlimit:
		return w.prlimit(s, c)
	case linux.Seccomp:
		f.filter = c.Filter
		f.reason(s, "--seccomp-filter")
	case linux.Ioprio:
		text := fmt.Sprintf("ionice -c %d -n %d --", c.Class, c.Level)
		f.wrap(s, text)
	case linux.SchedSetattr:
		return w.scheduler(s, c)
	case linux.Personality:
		domain, ok := map[uint32]string{0: "linux64", 8: "linux32"}[c.Persona]
		if !ok {
			return fmt.Errorf("persona %#x", c.Persona)
		}
		f.wrap(s, "setarch "+domain+" --")
	}
	return nil
}

// The options of chrt(1), by policy.
var policyOptions = map[linux.SchedPolicy]string{linux.SchedOther: "--other", linux.SchedFIFO: "--fifo", linux.SchedRR: "--rr",
	linux.SchedBatch: "--batch", linux.SchedIdle: "--idle", linux.SchedDeadline: "--deadline"}

// scheduler has chrt set all but the nice value, which counts for two policies only and
// which chrt does not know.
func (w *writer) scheduler(s *plan.Step, c linux.SchedSetattr) error {
	option, ok := policyOptions[c.Policy]
	if !ok {
		return fmt.Errorf("chrt has no option for policy %d", c.Policy)
	}
	const resetOnFork linux.SchedFlags = 1
	realtime := c.Policy == linux.SchedFIFO || c.Policy == linux.SchedRR
	if c.Flags&^resetOnFork != 0 || c.Flags != 0 && !realtime {
		return errors.New("chrt knows no flag but that for SCHED_FIFO and SCHED_RR that children have the usual policy")
	}
	if c.Flags != 0 {
		option += " --reset-on-fork"
	}
	if c.Policy == linux.SchedDeadline {
		option += fmt.Sprintf(" --sched-runtime %d --sched-deadline %d --sched-period %d", c.Runtime, c.Deadline, c.Period)
	}
	w.final.wrap(s, fmt.Sprintf("chrt %s %d", option, c.Priority))
	if c.Policy == linux.SchedOther || c.Policy == linux.SchedBatch {
		w.final.wrappers = append(w.final.wrappers, fmt.Sprintf(`sh -c 'renice -n %d -p $$ >/dev/null && exec "$@"' renice`, c.Nice))
	}
	return nil
}

func (f *final) option(s *plan.Step, text string) {
	f.setpriv = append(f.setpriv, text)
	name, _, _ := strings.Cut(text, "=")
	f.reason(s, name)
}

func (w *writer) prctl(s *plan.Step, c linux.Prctl) error {
	f := &w.final
	switch {
	case c.Option == linux.PrCapbsetDrop && c.Arg2 <= linux.LastCapability:
		f.bounds = true
		f.dropped |= 1 << c.Arg2
		f.reason(s, "--bounding-set")
	case c.Option == linux.PrCapbsetDrop:
		w.explain(s, fmt.Sprintf("capability %d has no name yet", c.Arg2))
	case c.Option == linux.PrSetDumpable && c.Arg2 == 1:
		w.explain(s, "it is so after an execve")
	case c.Option == linux.PrSetDumpable:
		w.explain(s, "util-linux has none; until the program starts, others of its user may look into the shell")
	case c.Option == linux.PrSetKeepcaps:
		f.reason(s, "setpriv does that by itself")
	case c.Option == linux.PrSetNoNewPrivs:
		f.option(s, "--no-new-privs")
	case c.Option == linux.PrCapAmbient && c.Arg2 == linux.AmbientClearAll:
		f.reason(s, "--ambient-caps")
	case c.Option == linux.PrCapAmbient && c.Arg2 == linux.AmbientRaise && c.Arg3 <= linux.LastCapability:
		f.ambient |= 1 << c.Arg3
		f.reason(s, "--ambient-caps")
	default:
		return errors.New("there is no command for it")
	}
	return nil
}

// The options of prlimit(1), by resource number.
var limitOptions = [...]string{"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks",
	"sigpending", "msgqueue", "nice", "rtprio", "rttime"}

func (w *writer) prlimit(s *plan.Step, c linux.Prlimit) error {
	if uint64(c.Resource) >= uint64(len(limitOptions)) {
		return fmt.Errorf("resource %d", c.Resource)
	}
	limit := func(n uint64) string {
		if n == ^uint64(0) {
			return "unlimited"
		}
		return strconv.FormatUint(n, 10)
	}
	w.final.limits = append(w.final.limits, fmt.Sprintf("--%s=%s:%s", limitOptions[c.Resource], limit(c.Soft), limit(c.Hard)))
	w.final.reason(s, "prlimit")
	return nil
}

// capabilities lists a set as the options of setpriv take it, each name with a sign.
func capabilities(set uint64, sign string) []string {
	var list []string
	for n := range uint(linux.LastCapability + 1) {
		if set&(1<<n) != 0 {
			list = append(list, sign+strings.ToLower(strings.TrimPrefix(linux.CapabilityName(n), "CAP_")))
		}
	}
	return list
}

// only is a set for an option of setpriv.
func only(set uint64) string {
	return strings.Join(append([]string{"-all"}, capabilities(set, "+")...), ",")
}

// bounding is what the bounding set becomes, said in the shorter of two ways.
func bounding(dropped uint64) string {
	const all = 1<<(linux.LastCapability+1) - 1
	if less := capabilities(dropped, "-"); len(less) <= linux.LastCapability/2 {
		return strings.Join(less, ",")
	}
	return only(all &^ dropped)
}

// commands are the lines that end the inside part.
func (f *final) commands() []string {
	var parts []string
	parts = append(parts, f.wrappers...)
	if len(f.limits) > 0 {
		parts = append(parts, "prlimit "+strings.Join(f.limits, " ")+" --")
	}
	setpriv := "setpriv"
	if f.bounds || f.capset {
		if f.bounds {
			setpriv += " --bounding-set=" + bounding(f.dropped)
		}
		setpriv += " --inh-caps=" + only(f.inheritable) + " --ambient-caps=" + only(f.ambient)
	}
	for _, o := range f.setpriv {
		setpriv += " " + o
	}
	if !strings.Contains(setpriv, "--groups=") && !strings.Contains(setpriv, "--clear-groups") && strings.Contains(setpriv, "--regid=") {
		setpriv += " --keep-groups"
	}
	if f.filter != "" {
		setpriv += ` "${seccomp[@]}"`
	}
	if setpriv != "setpriv" {
		parts = append(parts, setpriv+" --")
	}
	env := "env -i"
	if f.signals {
		env += " --default-signal"
	}
	parts = append(parts, strings.TrimSpace(env+" "+shellword.Join(f.env...)), `bash -p -c "$last" `+shellword.Join(f.args...))
	return []string{"exec " + strings.Join(parts, " \\\n    ")}
}
