package plan

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// DiffOptions say what of two plans is the same although it is written differently.
type DiffOptions struct {
	// Same lists texts that necessarily differ: the containers' ids, their
	// temporary directories.
	Same []Alias
}

// Alias is a text of plan a and its counterpart in plan b.
type Alias struct{ A, B string }

// Change is a difference between two plans.
type Change struct {
	// A and B are indexes of steps: of plan a alone for a removed step, of plan b
	// alone for an added one, of both for a changed one. The other is -1.
	A, B int
}

// Diff lists what differs between two plans, in the order of time. A step is changed
// when it has a counterpart at the same place: the same call of the same actor, for
// the same reason or the same part of the configuration. The part of the
// configuration itself (Step.From) counts for nothing: it only explains.
func Diff(a, b *Plan, o DiffOptions) []Change {
	keysA, keysB := make([]string, len(a.Steps)), make([]string, len(b.Steps))
	for i := range a.Steps {
		keysA[i] = o.stepKey(&a.Steps[i], true)
	}
	for i := range b.Steps {
		keysB[i] = o.stepKey(&b.Steps[i], false)
	}
	return pairUp(a, b, edits(keysA, keysB))
}

// replace puts a mark that no text holds in the place of the aliases, longest first,
// since one may be a part of another.
func (o DiffOptions) replace(s string, isA bool) string {
	text := func(x Alias) string {
		if isA {
			return x.A
		}
		return x.B
	}
	order := make([]int, len(o.Same))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return len(text(o.Same[j])) - len(text(o.Same[i])) })
	for _, i := range order {
		if t := text(o.Same[i]); t != "" {
			s = strings.ReplaceAll(s, t, "\x00"+strconv.Itoa(i)+"\x00")
		}
	}
	return s
}

// stepKey is all of a step that has an effect. Texts are quoted after the aliases in
// them are replaced, so that two steps with one key are the same.
func (o DiffOptions) stepKey(s *Step, isA bool) string {
	k := key{o: o, isA: isA}
	fmt.Fprintf(&k.b, "%d %q %d %v %v %v %v %v %v %q ", s.Actor, s.Result, s.When, s.Tolerate, s.TolerateAny, s.ZeroFails, s.Eager, s.Beside, s.Awaits, s.Later)
	k.text(s.Why)
	k.call(s.Call)
	if s.Undo != nil {
		k.b.WriteString(" undo ")
		k.call(s.Undo)
	}
	return k.b.String()
}

// key collects what is to be compared.
type key struct {
	b   strings.Builder
	o   DiffOptions
	isA bool
}

func (k *key) text(s string) { k.b.WriteString(strconv.Quote(k.o.replace(s, k.isA))) }

func (k *key) call(c Call) {
	k.b.WriteString(c.Name())
	k.args(c.AppendArgs(nil))
}

func (k *key) args(args []Arg) {
	k.b.WriteByte('(')
	for i := range args {
		a := &args[i]
		fmt.Fprintf(&k.b, "%d %d %x ", a.Kind, a.Size, a.Num)
		k.text(a.Text)
		for _, w := range a.Words {
			k.text(w)
		}
		k.args(a.List)
	}
	k.b.WriteByte(')')
}

// sameArgs compares arguments of plan a with those of plan b.
func (o DiffOptions) sameArgs(a, b []Arg) bool {
	ka, kb := key{o: o, isA: true}, key{o: o}
	ka.args(a)
	kb.args(b)
	return ka.b.String() == kb.b.String()
}

// edits finds a longest common subsequence and returns what is not in it. Plans have
// a few hundred steps, so the table of all pairs is small.
func edits(a, b []string) []Change {
	longest := make([][]int, len(a)+1)
	for i := range longest {
		longest[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	var list []Change
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i++
			j++
		case j == len(b) || i < len(a) && longest[i+1][j] >= longest[i][j+1]:
			list = append(list, Change{A: i, B: -1})
			i++
		default:
			list = append(list, Change{A: -1, B: j})
			j++
		}
	}
	return list
}

// pairUp makes a change of a removed and an added step that are counterparts, within
// each run of differences.
func pairUp(a, b *Plan, list []Change) []Change {
	var out []Change
	for len(list) > 0 {
		run := runLength(list)
		out = append(out, pairRun(a, b, list[:run])...)
		list = list[run:]
	}
	return out
}

// runLength counts the differences that lie next to each other in both plans.
func runLength(list []Change) int {
	lastA, lastB := -2, -2
	for n, c := range list {
		follows := c.A >= 0 && (c.A == lastA+1 || lastA == -2) || c.B >= 0 && (c.B == lastB+1 || lastB == -2)
		if n > 0 && !follows {
			return n
		}
		if c.A >= 0 {
			lastA = c.A
		} else {
			lastB = c.B
		}
	}
	return len(list)
}

func pairRun(a, b *Plan, run []Change) []Change {
	var out []Change
	used := make([]bool, len(run))
	for i, c := range run {
		if c.A < 0 || used[i] {
			continue
		}
		for j, d := range run {
			if d.B >= 0 && !used[j] && counterparts(&a.Steps[c.A], &b.Steps[d.B]) {
				used[j] = true
				c.B = d.B
				break
			}
		}
		out = append(out, c)
	}
	for j, d := range run {
		if d.A < 0 && !used[j] {
			out = insertAdded(out, d)
		}
	}
	return out
}

// insertAdded keeps the order of plan b.
func insertAdded(out []Change, d Change) []Change {
	at := len(out)
	for at > 0 && out[at-1].B > d.B {
		at--
	}
	return slices.Insert(out, at, d)
}

func counterparts(s, t *Step) bool {
	return s.Actor == t.Actor && s.Chapter == t.Chapter && s.Call.Name() == t.Call.Name() && (s.Why == t.Why || s.From != "" && s.From == t.From)
}

// WriteDiff prints what differs between two plans for a person who asks why two runs
// were not the same: the steps under their chapters and reasons, "-" before what is
// in a only, "+" before what is in b only, and the part of the configuration that
// asked for it.
func WriteDiff(w io.Writer, a, b *Plan, o DiffOptions) error {
	var out strings.Builder
	list := Diff(a, b, o)
	counts := [3]int{}
	chapter, why := Chapter(""), ""
	for _, c := range list {
		s := &Step{}
		if c.A >= 0 {
			s = &a.Steps[c.A]
		} else {
			s = &b.Steps[c.B]
		}
		if s.Chapter != chapter {
			chapter, why = s.Chapter, ""
			out.WriteString("# " + string(chapter) + "\n")
		}
		if heading := s.who() + ": " + s.Why; heading != why {
			why = heading
			out.WriteString("  " + heading + asked(s) + "\n")
		}
		counts[writeChange(&out, a, b, c, o)]++
	}
	fmt.Fprintf(&out, "%s, %s, %s\n", steps(counts[0], "changed"), steps(counts[1], "only in the first"), steps(counts[2], "only in the second"))
	_, err := io.WriteString(w, out.String())
	return err
}

func asked(s *Step) string {
	if s.From == "" {
		return ""
	}
	return " (" + s.From + ")"
}

func steps(n int, what string) string {
	if n == 1 {
		return "1 step " + what
	}
	return strconv.Itoa(n) + " steps " + what
}

// maxLine is how long a step may be to be printed whole when only a part of it
// differs.
const maxLine = 160

// writeChange prints one difference and returns its kind: 0 changed, 1 removed, 2
// added.
func writeChange(out *strings.Builder, a, b *Plan, c Change, o DiffOptions) int {
	switch {
	case c.B < 0:
		out.WriteString("  - " + a.Steps[c.A].String() + "\n")
		return 1
	case c.A < 0:
		out.WriteString("  + " + b.Steps[c.B].String() + "\n")
		return 2
	}
	s, t := &a.Steps[c.A], &b.Steps[c.B]
	before, after := s.String(), t.String()
	if before != after && max(len(before), len(after)) <= maxLine {
		out.WriteString("  - " + before + "\n  + " + after + "\n")
	} else {
		out.WriteString("  ~ " + s.Call.Name() + "\n")
		o.writeArgs(out, "", s.Call.AppendArgs(nil), t.Call.AppendArgs(nil))
	}
	if s.Why != t.Why {
		out.WriteString("      for another reason: " + t.Why + "\n")
	}
	if s.Eager != t.Eager || s.Beside != t.Beside || s.Awaits != t.Awaits || s.Later != t.Later || s.ZeroFails != t.ZeroFails || !sameUndo(s, t, o) {
		out.WriteString("      with another order, check or inverse\n")
	}
	return 0
}

func sameUndo(s, t *Step, o DiffOptions) bool {
	if s.Undo == nil || t.Undo == nil {
		return s.Undo == nil && t.Undo == nil
	}
	return s.Undo.Name() == t.Undo.Name() && o.sameArgs(s.Undo.AppendArgs(nil), t.Undo.AppendArgs(nil))
}

// writeArgs prints the arguments that differ, by their place.
func (o DiffOptions) writeArgs(out *strings.Builder, place string, a, b []Arg) {
	for i := range max(len(a), len(b)) {
		at := place + strconv.Itoa(i+1)
		switch {
		case i >= len(a):
			out.WriteString("      + argument " + at + ": " + argText(b[i]) + "\n")
		case i >= len(b):
			out.WriteString("      - argument " + at + ": " + argText(a[i]) + "\n")
		default:
			o.writeArg(out, at, a[i], b[i])
		}
	}
}

func (o DiffOptions) writeArg(out *strings.Builder, at string, a, b Arg) {
	switch {
	case o.sameArgs([]Arg{a}, []Arg{b}):
	case a.Kind == Struct && b.Kind == Struct:
		o.writeArgs(out, at+".", a.List, b.List)
	case a.Kind == Vector && b.Kind == Vector:
		o.writeWords(out, at, a.Words, b.Words)
	case a.Kind == Bytes && b.Kind == Bytes && len(a.Text) == len(b.Text):
		out.WriteString("      argument " + at + ": " + argText(a) + " that are others\n")
	default:
		out.WriteString("      - argument " + at + ": " + argText(a) + "\n      + argument " + at + ": " + argText(b) + "\n")
	}
}

// writeWords prints the words that only one of two lists has.
func (o DiffOptions) writeWords(out *strings.Builder, at string, a, b []string) {
	keysA, keysB := make([]string, len(a)), make([]string, len(b))
	for i, s := range a {
		keysA[i] = o.replace(s, true)
	}
	for i, s := range b {
		keysB[i] = o.replace(s, false)
	}
	for _, c := range edits(keysA, keysB) {
		if c.A >= 0 {
			out.WriteString("      - argument " + at + ": " + strconv.Quote(a[c.A]) + "\n")
		} else {
			out.WriteString("      + argument " + at + ": " + strconv.Quote(b[c.B]) + "\n")
		}
	}
}

func argText(a Arg) string {
	var b strings.Builder
	formatArg(&b, a)
	return b.String()
}
