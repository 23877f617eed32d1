package shell

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containr/containr/internal/shellword"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// section is a part of the script that grows.
type section struct {
	lines   []string
	chapter plan.Chapter
	why     string
	waiting []string // reasons of steps whose command comes later
}

// remember keeps the reason of a step until the next command.
func (s *section) remember(why string) {
	if (why != s.why || len(s.waiting) > 0) && !slices.Contains(s.waiting, why) {
		s.waiting = append(s.waiting, why)
	}
}

// add writes commands under the reason and the chapter of a step.
func (s *section) add(step *plan.Step, commands ...string) {
	s.remember(step.Why)
	if step.Chapter != s.chapter {
		s.lines = append(s.lines, "", "### "+string(step.Chapter))
		s.chapter, s.why = step.Chapter, ""
	}
	if len(s.waiting) > 0 {
		s.lines = append(s.lines, "")
		for _, why := range s.waiting {
			s.lines = append(s.lines, "# "+remark(why))
		}
		s.why = s.waiting[len(s.waiting)-1]
		s.waiting = nil
	}
	s.lines = append(s.lines, commands...)
}

// note writes a comment about a step that has no command. Reasons that have the same
// answer share it.
func (s *section) note(step *plan.Step, text string) {
	text = "#   (no command: " + remark(text) + ")"
	if n := len(s.lines); n > 0 && s.lines[n-1] == text && step.Chapter == s.chapter {
		s.remember(step.Why)
		s.lines = s.lines[:n-1]
		for _, why := range s.waiting {
			s.lines = append(s.lines, "# "+remark(why))
		}
		s.why, s.waiting = step.Why, nil
		s.lines = append(s.lines, text)
		return
	}
	s.add(step, text)
}

// writer interprets a plan.
type writer struct {
	steps []plan.Step
	regs  map[plan.Reg]value
	// The parts of the script, see the package comment. swap is the helper's end.
	host, helper, inside, swap section
	// The last shell closes descriptors while it can still see them, and looks for
	// the program when it is in the new root.
	closing, last section
	birth         birth
	final         final
	// undo says that the host part has something to undo.
	undo bool
	// root is the host directory of the new root, once it is known.
	pivoted, born, executed bool
	userNS                  bool
	uses                    map[string]bool
	explained               map[string]bool
}

func newWriter(p *plan.Plan) *writer {
	return &writer{steps: p.Steps, regs: map[plan.Reg]value{}, uses: map[string]bool{}, explained: map[string]bool{}}
}

// value is what is known about a register.
type value struct {
	// place is where an attached mount or a looked-up directory is; it is empty for
	// what is not attached yet.
	place path
	// fs is a file system in the making, or a mount of it.
	fs *filesystem
	// bind is a copy of a mount that is not attached yet, and moved a mount that
	// is to be moved.
	bind  *bind
	moved path
	// file is a host file to join or to write to.
	file string
}

// path is an expression of the shell for a path: a variable and what follows it, or
// only what follows.
type path struct{ variable, rest string }

func (p path) empty() bool { return p == path{} }

// join appends a relative path.
func (p path) join(rel string) path {
	if rel == "" || rel == "." {
		return p
	}
	return path{p.variable, strings.TrimSuffix(p.rest, "/") + "/" + rel}
}

func (p path) String() string {
	switch {
	case p.variable == "":
		return shellword.Quote(p.rest)
	case p.rest == "":
		return `"$` + p.variable + `"`
	}
	return `"$` + p.variable + `"` + shellword.Quote(p.rest)
}

// reserved are the variables of the script that no register may take over.
var reserved = " found here rest name next to links how script last helper status undo pid go fd temporary filter seccomp "

// variable is the shell variable for a register.
func variable(r plan.Reg) (string, error) {
	if !identifier(string(r)) {
		return "", fmt.Errorf("register %q cannot be a variable", r)
	}
	if strings.Contains(reserved, " "+string(r)+" ") || strings.ToUpper(string(r)) == string(r) {
		return "reg_" + string(r), nil
	}
	return string(r), nil
}

// place is where the descriptor's file is.
func (w *writer) place(fd linux.FD) (path, error) {
	if v, ok := w.regs[plan.Reg(fd)]; ok && !v.place.empty() {
		return v.place, nil
	}
	return path{}, fmt.Errorf("it is not known where %q is", fd)
}

// used reports whether the register is read after step i, before it is set again.
func (w *writer) used(r plan.Reg, i int) bool {
	for k := i + 1; k < len(w.steps); k++ {
		if mentions(w.steps[k].Call.AppendArgs(nil), r) {
			return true
		}
		if w.steps[k].Result == r {
			return false
		}
	}
	return false
}

func mentions(args []plan.Arg, r plan.Reg) bool {
	for i := range args {
		if args[i].Kind == plan.RegArg && plan.Reg(args[i].Text) == r || mentions(args[i].List, r) {
			return true
		}
	}
	return false
}

// step interprets the step i with those that depend on it and returns the index
// behind them.
func (w *writer) step(i int) (int, error) {
	s := &w.steps[i]
	end := i + 1
	for end < len(w.steps) && w.steps[end].Actor == s.Actor && w.steps[end].When != plan.Always {
		end++
	}
	if c, ok := s.Call.(linux.Clone); ok {
		return end, w.clone(s, c)
	}
	switch {
	case s.Actor == plan.Keeper:
		var err error
		for k := i; k < end && err == nil; k++ {
			err = w.keeper(&w.steps[k])
		}
		return end, err
	case s.Actor == plan.Host:
		if end > i+1 {
			return w.hostGroup(i, end)
		}
		return end, w.hostStep(s)
	case s.Chapter == plan.TerminalChapter:
		for k := i; k < end; k++ {
			w.explain(&w.steps[k], "the program keeps the caller's terminal")
		}
		return end, nil
	}
	return end, w.group(i, end)
}

// rememberAll keeps the reasons of a group for its command.
func (w *writer) rememberAll(s *section, i, end int) {
	for ; i < end; i++ {
		s.remember(w.steps[i].Why)
	}
}

// explain notes in the inside part, once for each reason, why a step has no command.
func (w *writer) explain(s *plan.Step, text string) {
	key := s.Why + "\x00" + text
	if !w.explained[key] {
		w.explained[key] = true
		w.inside.note(s, text)
	}
}

// group interprets a step of the child with its dependent ones.
func (w *writer) group(i, end int) error {
	s := &w.steps[i]
	switch c := s.Call.(type) {
	case linux.Openat2:
		if c.Resolve&linux.ResolveInRoot != 0 || w.pivoted && c.Dir == linux.CWD {
			return w.lookup(i, end, c)
		}
	case linux.Faccessat:
		if c.Mode != linux.FOK {
			return w.search(i, end, c)
		}
	}
	head, err := w.command(i)
	if err != nil {
		return err
	}
	if end == i+1 {
		w.emit(s, head)
		return nil
	}
	then, err := w.branch(i+1, end, plan.Then)
	if err != nil {
		return err
	}
	otherwise, err := w.branch(i+1, end, plan.Else)
	if err != nil {
		return err
	}
	if len(head) != 1 {
		return errors.New("steps depend on it, and no single command stands for it")
	}
	w.rememberAll(&w.inside, i, end)
	w.inside.add(s, conditional(head[0].text+" 2>/dev/null", then, otherwise)...)
	return nil
}

// command is one line of the shell. A tolerant one never fails when all that goes
// wrong is what the step tolerates.
type command struct {
	text     string
	tolerant bool
}

func run(format string, args ...any) []command {
	return []command{{text: fmt.Sprintf(format, args...)}}
}

func tolerant(format string, args ...any) []command {
	return []command{{text: fmt.Sprintf(format, args...), tolerant: true}}
}

// emit writes the commands of one step.
func (w *writer) emit(s *plan.Step, list []command) {
	if len(list) == 0 {
		if !toldElsewhere(s) && (w.pivoted || !slices.Contains(w.host.waiting, s.Why)) {
			w.inside.remember(s.Why)
		}
		return
	}
	w.inside.add(s, lines(s, list)...)
}

// toldElsewhere reports whether the reason of a step is written in another part than
// the one that has its place in time.
func toldElsewhere(s *plan.Step) bool {
	switch s.Call.(type) {
	case linux.Prctl, linux.Capset, linux.Setgroups, linux.Setresuid, linux.Setresgid, linux.Prlimit, linux.Seccomp, linux.Ioprio, linux.Personality, linux.SchedSetattr,
		linux.Setns, linux.Unshare, linux.Setsid, linux.Execve, linux.Umount, linux.CloseRange, linux.DefaultAction, linux.Sethostname, linux.Setdomainname, linux.LinkUp:
		return true
	}
	return false
}

// lines are the commands of one step with what it tolerates: when the first of several
// fails, the others make no sense.
func lines(s *plan.Step, list []command) []string {
	texts := make([]string, len(list))
	for i, c := range list {
		texts[i] = c.text
	}
	switch {
	case len(list) == 0, !s.TolerateAny && len(s.Tolerate) == 0, len(list) == 1 && list[0].tolerant:
		return texts
	case len(list) > 1:
		return []string{"{ " + strings.Join(texts, " && ") + "; } 2>/dev/null || :"}
	}
	return []string{texts[0] + " 2>/dev/null || :"}
}

// branch interprets the steps of one kind of dependence.
func (w *writer) branch(from, to int, when plan.When) ([]string, error) {
	var out []string
	for i := from; i < to; i++ {
		if w.steps[i].When != when {
			continue
		}
		list, err := w.command(i)
		if err != nil {
			return nil, err
		}
		out = append(out, lines(&w.steps[i], list)...)
	}
	return out, nil
}

// conditional writes an if.
func conditional(condition string, then, otherwise []string) []string {
	if len(then) == 0 && len(otherwise) == 0 {
		return []string{condition + " || :"}
	}
	if len(then) == 0 {
		condition, then, otherwise = "! "+condition, otherwise, nil
	}
	out := append([]string{"if " + condition + "; then"}, indent(then)...)
	if len(otherwise) > 0 {
		out = append(append(out, "else"), indent(otherwise)...)
	}
	return append(out, "fi")
}

func indent(list []string) []string {
	out := make([]string, len(list))
	for i, l := range list {
		if out[i] = l; l != "" {
			out[i] = "    " + l
		}
	}
	return out
}
