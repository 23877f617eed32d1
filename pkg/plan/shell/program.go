package shell

import (
	"errors"
	"slices"
	"strings"

	"github.com/containr/containr/internal/shellword"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// search interprets the look for the program and its execution, by the last shell.
func (w *writer) search(i, end int, c linux.Faccessat) error {
	s := &w.steps[i]
	if c.Dir != linux.CWD || c.Mode != linux.XOK {
		w.explain(s, "the last shell looks for the program")
		return nil
	}
	condition := "[ -x " + shellword.Quote(c.Path) + " ]"
	if end > i+1 {
		e, ok := w.steps[i+1].Call.(linux.Execve)
		if !ok {
			w.rememberAll(&w.inside, i, end)
			w.explain(s, "the last shell looks for the program")
			return nil
		}
		if err := w.environment(e); err != nil {
			return err
		}
		w.rememberAll(&w.last, i, end)
		w.last.add(s, "if "+condition+"; then", "    "+execute(e), "fi")
		return nil
	}
	e, ok := w.next(i)
	if !ok {
		w.explain(s, "the last shell looks for the program")
		return nil
	}
	if err := w.environment(e); err != nil {
		return err
	}
	w.rememberAll(&w.last, i, i+2)
	w.last.add(s, condition+" || { echo "+shellword.Quote(c.Path+": not found, or not executable")+" >&2; exit 127; }", execute(e))
	return nil
}

// next is the execution that follows a search that must succeed; its step is done
// with that.
func (w *writer) next(i int) (linux.Execve, bool) {
	if i+1 == len(w.steps) || w.steps[i+1].Actor != plan.Child {
		return linux.Execve{}, false
	}
	e, ok := w.steps[i+1].Call.(linux.Execve)
	w.executed = w.executed || ok
	return e, ok
}

func execute(e linux.Execve) string { return `exec -a "$0" ` + shellword.Quote(e.Path) + ` "$@"` }

// Variables that bash keeps for itself, and those that it takes from its environment
// but will not have set.
const (
	kept     = " _ BASHOPTS BASHPID BASH_COMMAND BASH_SUBSHELL BASH_VERSINFO EPOCHREALTIME EPOCHSECONDS HISTCMD LINENO PPID RANDOM SHELLOPTS SRANDOM "
	imported = " BASH_ALIASES BASH_ARGC BASH_ARGV BASH_CMDS BASH_LINENO BASH_SOURCE COPROC DIRSTACK EUID FUNCNAME GROUPS SHLVL UID "
)

// environment sorts the program's variables by how they get to it. Most are set by the
// last shell, right before it becomes the program, so that LD_PRELOAD and the like
// mean nothing to the tools; those that it cannot set are handed to it by env.
func (w *writer) environment(e linux.Execve) error {
	f := &w.final
	if len(e.Args) == 0 {
		return errors.New("a program without arguments")
	}
	if f.args != nil {
		return nil
	}
	f.args = e.Args
	for _, v := range e.Env {
		name, _, has := strings.Cut(v, "=")
		switch {
		case !has:
			f.lost = append(f.lost, v)
		case strings.Contains(kept, " "+name+" "):
			f.lost = append(f.lost, name)
		case !identifier(name), strings.Contains(imported, " "+name+" "):
			f.env = append(f.env, v)
		default:
			f.exports = append(f.exports, v)
		}
	}
	return nil
}

// prepare are the last shell's commands before the program is looked for: the
// environment is made what it should be.
func (f *final) prepare() []string {
	out := []string{
		"# The helper puts the new root in the place of the old one.",
		"echo ready >&3",
		`read -r go <&4 && [ "$go" = go ] || exit 125`,
		"exec 3>&- 4<&-",
		"",
		"# Exactly the container's environment; an array is never exported.",
		"unset PWD OLDPWD",
	}
	if !slices.ContainsFunc(f.env, func(v string) bool { return strings.HasPrefix(v, "SHLVL=") }) {
		out = append(out, "declare -a SHLVL")
	}
	for _, v := range f.exports {
		out = append(out, "export -- "+shellword.Quote(v)+" 2>/dev/null")
	}
	if len(f.lost) > 0 {
		out = append(out, "# not set, as bash keeps it for itself: "+remark(strings.Join(f.lost, " ")))
	}
	return out
}
