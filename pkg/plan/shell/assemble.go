package shell

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containr/containr/internal/shellword"
)

// complete checks that the plan was the plan of a container.
func (w *writer) complete() error {
	switch {
	case !w.born:
		return errors.New("the plan makes no process")
	case !w.pivoted || w.final.unmount == nil:
		return errors.New("the plan does not change the root")
	case !w.executed:
		return errors.New("the plan executes no program")
	}
	return nil
}

// assemble puts the parts together.
func (w *writer) assemble(o Options) string {
	var b strings.Builder
	put := func(lines ...string) {
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
	}
	put(head(o)...)
	if w.undo {
		put(undoing...)
	}
	if w.uses["remove"] {
		put(functions["remove"]...)
	}
	put(w.host.lines...)
	put(w.helperPart()...)
	put(w.birthPart()...)
	return b.String()
}

func head(o Options) []string {
	name := "the container"
	if o.Name != "" {
		name += " " + o.Name
	}
	return []string{
		"#!/bin/bash",
		"# Builds " + remark(name) + " by hand, with the tools of util-linux. To be run by root.",
		"# Made from the container's plan; each group of commands has the reason of its steps.",
		"set -eu",
	}
}

var undoing = []string{
	"",
	"# What is made on the host goes when the script ends, last things first.",
	"undo=()",
	`at_end() { for ((i = ${#undo[@]} - 1; i >= 0; i--)); do eval "${undo[i]}" || :; done; }`,
	"trap at_end EXIT",
}

// The functions that a script has if it uses them.
var functions = map[string][]string{
	"remove": {
		"",
		"# A control group is busy for a moment after its last process has ended.",
		"remove() {",
		"    for _ in 1 2 3 4 5 6 7 8 9 10; do",
		`        rmdir -- "$1" 2>/dev/null && return || sleep 0.1`,
		"    done",
		`    rmdir -- "$1"`,
		"}",
	},
	"inside": {
		"",
		"# inside find|dir|file PATH [nolinks|apart]: where the path is, seen from the new root; links",
		"# are followed as if it were the root already. dir and file make what is missing. With apart,",
		"# links must not lead to where the kernel shows itself.",
		"inside() {",
		"    how=$1 rest=$2 here=$root links=0",
		`    while [ -n "$rest" ]; do`,
		"        name=${rest%%/*}",
		"        case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac",
		"        case $name in",
		"        '' | .) continue ;;",
		`        ..) [ "$here" = "$root" ] || here=${here%/*}; continue ;;`,
		"        esac",
		"        next=$here/$name",
		`        if [ -L "$next" ]; then`,
		"            links=$((links + 1))",
		`            [ "$links" -le 40 ] && [ "${3-}" != nolinks ] || { echo "$2: symbolic links" >&2; return 1; }`,
		`            to=$(readlink -n -- "$next" && echo .)`,
		"            to=${to%.}",
		"            case $to in /*) here=$root ;; esac",
		"            rest=$to/$rest",
		"            continue",
		"        fi",
		`        if [ ! -e "$next" ]; then`,
		`            if [ "$how" = find ]; then return 1; fi`,
		`            if [ "$how" = dir ] || [ -n "$rest" ]; then`,
		`                mkdir -m 0755 -- "$next" || return 1`,
		"            else",
		`                install -m 0644 -- /dev/null "$next" || return 1`,
		"            fi",
		"        fi",
		"        here=$next",
		"    done",
		`    case ${3-}$here/ in apart"$root"/proc/* | apart"$root"/sys/*) echo "$2: a link into /proc or /sys" >&2; return 1 ;; esac`,
		"    found=$here",
		"}",
	},
	"remount_all": {
		"",
		"# remount_all OPTIONS PATH: for the mount there and all mounts below it.",
		"remount_all() {",
		`    findmnt --submounts --raw --noheadings --output TARGET -- "$2" | while read -r to; do`,
		`        mount -o "remount,bind,$1" -- "$(printf %b "$to")"`,
		"    done",
		"}",
	},
}

// helperPart is the process that stays outside.
func (w *writer) helperPart() []string {
	out := []string{
		"",
		"# The helper stays outside. Up and down are fifos; nobody sees them after this.",
		"temporary=$(mktemp -d)",
		`mkfifo "$temporary/up" "$temporary/down"`,
		`exec 3<>"$temporary/up" 4<>"$temporary/down"`,
		`rm -r "$temporary"`,
		"helper() {",
		"    trap 'echo stop >&4' EXIT",
		"    read -r pid <&3",
	}
	body := w.helper.lines
	if w.birth.cgroup != "" {
		body = append([]string{"", "# its first steps are in its control group", `echo "$pid" > ` + shellword.Quote(w.birth.cgroup+"/cgroup.procs")}, body...)
	}
	out = append(out, indent(body)...)
	out = append(out, "", "    echo go >&4", "    read -r go <&3")
	w.swap.add(w.final.unmount, `nsenter --mount="/proc/$pid/ns/mnt" -- umount --lazy /`)
	out = append(out, indent(w.swap.lines)...)
	return append(out, "", "    echo go >&4", "}", "helper &", "helper=$!")
}

// birthPart is the birth with all that happens inside.
func (w *writer) birthPart() []string {
	b := &w.birth
	out := []string{""}
	for _, why := range append(w.host.waiting, b.step.Why) {
		out = append(out, "# "+remark(why))
	}
	command := ""
	if len(b.nsenter) > 0 {
		command = "nsenter " + strings.Join(b.nsenter, " ") + " -- "
	}
	command += "unshare " + strings.Join(b.unshare, " ") + " --propagation unchanged"
	if w.userNS {
		command += " --keep-caps"
	}
	if b.fork {
		command += " --fork"
	}
	command += " --"
	if len(b.setsid) > 0 {
		out = append(out, "# "+remark(b.setsid[0])+": setsid")
		command += " setsid --"
	}
	late := ""
	if b.lateCgroup {
		late = "unshare --cgroup -- "
	}
	if len(b.identity) > 0 {
		out = append(out, "# "+remark(strings.Join(b.identity, "; "))+": setpriv")
		late += "setpriv --regid=0 --reuid=0 --keep-groups -- "
	}
	out = append(out,
		"born='read -r pid rest < /proc/self/stat; echo \"$pid\" >&3",
		"    read -r go <&4 && [ \"$go\" = go ] || exit 125",
		"    exec \"$@\"'",
		"script='IFS= read -r -d \"\" script <&9 || :; exec 9<&-; eval \"$script\"'",
		"status=0",
		fmt.Sprintf("%s bash -p -c \"$born\" born %sbash -p -c \"$script\" inside 9<<'INSIDE' || status=$?", command, late),
		"set -eu")
	for _, name := range []string{"inside", "remount_all"} {
		if w.uses[name] {
			out = append(out, functions[name]...)
		}
	}
	out = append(out, w.inside.lines...)
	out = append(out, w.finalPart()...)
	return append(out, "INSIDE", `kill "$helper" 2>/dev/null || :`, `wait "$helper" 2>/dev/null || :`, `exit "$status"`)
}

// finalPart ends the inside part: the last shell, and the way to it.
func (w *writer) finalPart() []string {
	f := &w.final
	out := []string{"", "### last", "", "# What the last shell does, when no tool can be executed any more.", `IFS= read -r -d "" last <<'LAST' || :`}
	out = append(out, w.closing.lines...)
	out = append(out, f.prepare()...)
	out = append(out, w.last.lines...)
	out = append(out, "LAST", "")
	if f.filter != "" {
		out = append(out, seccomp(f.filter)...)
	}
	for _, r := range f.reasons {
		out = append(out, "# "+r)
	}
	return append(out, f.commands()...)
}

// seccomp loads the filter if setpriv can.
func seccomp(filter string) []string {
	var b strings.Builder
	for i := range len(filter) {
		fmt.Fprintf(&b, `\%03o`, filter[i])
	}
	return []string{
		"if setpriv --help | grep -q -- --seccomp-filter; then",
		"    exec 8< <(printf '" + b.String() + "')",
		"    seccomp=(--seccomp-filter /dev/fd/8)",
		"else",
		"    echo 'no system call filter: this setpriv cannot load one, that of util-linux 2.41 can' >&2",
		"    seccomp=()",
		"fi",
	}
}
