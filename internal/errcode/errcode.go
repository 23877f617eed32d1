// Package errcode is the catalogue of what can go wrong: a stable code for each kind of error, with its cause, the likely
// reasons, and what to do.
//
// # Theory of operation
//
// Go errors are told apart by sentinels (errors.Is) or, for a step of a plan, by the call and the kernel's answer. The catalogue
// gives each of them a code that never changes, CTR and four digits, so that people can search for it and programs can branch
// on it:
//
//	CTR-0xxx  the command line, and what has no other code
//	CTR-1xxx  containers
//	CTR-2xxx  images, layers, registries
//	CTR-3xxx  this machine: kernel, control groups, service manager, disks
//	CTR-4xxx  the program that was to run in the container
//	CTR-5xxx  a step of a plan: a system call and its errno
//
// Those of steps are numbered where their hints are, in pkg/runtime; those of programs in pkg/engine. The others are the table in
// table.go. docs/cli/errors.md is written from all of them, and a test finds a sentinel without a code.
//
// A code that was given is not given again, nor taken away: testdata/codes.txt remembers.
package errcode

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/containr/containr/internal/spelling"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/runtime"
)

// Entry is one kind of error.
type Entry struct {
	// Code is CTR- and four digits.
	Code string
	// Sentinel is the error that it stands for, and Name where that is declared: "pkg/container.ErrNotFound". Both are empty
	// for kinds that are found in another way.
	Sentinel error
	Name     string
	// Title names the kind in a few words, Cause says in a sentence what has happened.
	Title, Cause string
	// Reasons are the likely ones, the likeliest first. Do is what to do, a line each.
	Reasons, Do []string
}

// Codes that are not found by a sentinel.
const (
	// Usage is a command line that was not understood.
	Usage = "CTR-0001"
	// Interrupted is a command that was told to end.
	Interrupted = "CTR-0002"
	// Other is what the catalogue does not know.
	Other = "CTR-0999"
	// OutOfMemory is a program that its container's memory limit ended.
	OutOfMemory = "CTR-1051"
	// Killed is a container that was killed before its program ran.
	Killed = "CTR-1052"
)

// All returns every entry, by code.
func All() []Entry {
	all := slices.Clone(table)
	for _, h := range runtime.Hints() {
		all = append(all, stepEntry(h))
	}
	for _, c := range engine.ProgramCauses() {
		all = append(all, Entry{Code: c.Code, Title: c.Title, Cause: c.Meaning, Reasons: c.Reasons, Do: c.Do})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Code < all[j].Code })
	return all
}

// stepEntry makes an entry of what the runtime knows about a step.
func stepEntry(h runtime.HintEntry) Entry {
	e := Entry{Code: h.Code, Title: fmt.Sprintf("%s: %s", h.Call, h.Errno.Error()), Reasons: []string{h.Text}}
	e.Cause = fmt.Sprintf("A step of the container's plan failed: the kernel answered %s with %q.", h.Call, h.Errno.Error())
	if h.Why != "" {
		e.Title += fmt.Sprintf(" (%s)", h.Why)
		e.Cause = fmt.Sprintf("A step of the container's plan, whose reason has the words %q, failed: the kernel answered %s with %q.", h.Why, h.Call, h.Errno.Error())
	}
	e.Do = []string{
		"The message names the step and its operand: look at that first.",
		"`containr --debug run ...` prints each step with its result, `containr explain run ...` all of them beforehand.",
	}
	return e
}

// Of returns the code of an error. It is Other if the catalogue does not know it.
func Of(err error) string {
	if code := engine.ProgramCode(err); code != "" {
		return code
	}
	if code := runtime.HintCode(err); code != "" {
		return code
	}
	if errors.As(err, new(runtime.KilledError)) {
		return Killed
	}
	for _, e := range table {
		if e.Sentinel != nil && errors.Is(err, e.Sentinel) {
			return e.Code
		}
	}
	return Other
}

// Find returns the entry of a code, in capitals or not.
func Find(code string) (Entry, bool) {
	code = strings.ToUpper(code)
	for _, e := range All() {
		if e.Code == code {
			return e, true
		}
	}
	return Entry{}, false
}

// IsCode reports whether a word is meant as a code.
func IsCode(word string) bool { return len(word) > 4 && strings.EqualFold(word[:4], "CTR-") }

// Nearest is the code that may have been meant.
func Nearest(code string) string {
	var codes []string
	for _, e := range All() {
		codes = append(codes, e.Code)
	}
	return spelling.Nearest(strings.ToUpper(code), codes)
}

// Write prints an entry for a terminal.
func (e Entry) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n%s\n", e.Code, e.Title, e.Cause)
	list := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s\n", title)
		for _, l := range lines {
			fmt.Fprintf(&b, "  * %s\n", l)
		}
	}
	list("Likely reasons:", e.Reasons)
	list("What to do:", e.Do)
	_, err := io.WriteString(w, b.String())
	return err
}
