package plan

import (
	"io"
	"strconv"
	"strings"
)

// Texter is a call that has a notation of its own: a host action, which is written
// as the shell would do it.
type Texter interface{ Text() string }

// Format writes a call in the notation of strace, with register names in the
// place of descriptors; a host action as a shell command.
func Format(c Call) string {
	if t, ok := c.(Texter); ok {
		return t.Text()
	}
	var b strings.Builder
	b.WriteString(c.Name())
	b.WriteByte('(')
	for i, a := range c.AppendArgs(nil) {
		if i > 0 {
			b.WriteString(", ")
		}
		formatArg(&b, a)
	}
	b.WriteByte(')')
	return b.String()
}

func formatArg(b *strings.Builder, a Arg) {
	switch a.Kind {
	case Int:
		b.WriteString(strconv.FormatInt(int64(a.Num), 10))
	case Octal:
		b.WriteString("0" + strconv.FormatUint(a.Num, 8))
	case Hex:
		b.WriteString("0x" + strconv.FormatUint(a.Num, 16))
	case Device:
		major, minor := a.Num>>8&0xfff, a.Num&0xff|a.Num>>12&0xfff00
		b.WriteString("makedev(" + strconv.FormatUint(major, 10) + ", " + strconv.FormatUint(minor, 10) + ")")
	case FlagBits:
		b.WriteString(a.Names.flags(a.Num))
	case Enum:
		b.WriteString(a.Names.enum(a.Num))
	case Text:
		b.WriteString(strconv.Quote(a.Text))
	case Bytes:
		b.WriteString("[" + strconv.Itoa(len(a.Text)) + " bytes]")
	case Vector:
		for i, w := range a.Words {
			b.WriteString([]string{"[", ", "}[min(i, 1)] + strconv.Quote(w))
		}
		if len(a.Words) == 0 {
			b.WriteByte('[')
		}
		b.WriteByte(']')
	case Struct:
		formatList(b, "{", a.List, "}")
	case Out:
		b.WriteString("&[" + strconv.FormatUint(a.Num, 10) + "]")
	case RegArg:
		b.WriteString(a.Text)
	case RegAddr, RegHome:
		b.WriteString("&" + a.Text)
	case Null:
		b.WriteString("NULL")
	}
}

func formatList(b *strings.Builder, open string, list []Arg, end string) {
	b.WriteString(open)
	for i, a := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		if a.Label != "" {
			b.WriteString(a.Label + "=")
		}
		formatArg(b, a)
	}
	b.WriteString(end)
}

func (n *Names) flags(v uint64) string {
	if v == 0 {
		return n.zero()
	}
	var parts []string
	for _, f := range n.List {
		if f.Value != 0 && v&f.Value == f.Value {
			parts = append(parts, f.Name)
			v &^= f.Value
		}
	}
	if v != 0 {
		parts = append(parts, "0x"+strconv.FormatUint(v, 16))
	}
	return strings.Join(parts, "|")
}

func (n *Names) enum(v uint64) string {
	for _, f := range n.List {
		if f.Value == v {
			return f.Name
		}
	}
	if v == 0 {
		return n.zero()
	}
	return strconv.FormatInt(int64(v), 10)
}

func (n *Names) zero() string {
	if n.Zero != "" {
		return n.Zero
	}
	return "0"
}

// String is the step on one line, without its reason.
func (s *Step) String() string {
	var b strings.Builder
	switch s.When {
	case Then:
		b.WriteString("then ")
	case Else:
		b.WriteString("else ")
	case Again:
		b.WriteString("then ")
	}
	if s.Result != "" {
		b.WriteString(string(s.Result) + " = ")
	}
	b.WriteString(Format(s.Call))
	if s.TolerateAny {
		b.WriteString(" or any error")
	} else if len(s.Tolerate) > 0 {
		names := make([]string, len(s.Tolerate))
		for i, e := range s.Tolerate {
			names[i] = e.Name()
		}
		b.WriteString(" or " + strings.Join(names, ", "))
	}
	if s.When == Again {
		b.WriteString(", and again")
	}
	return b.String()
}

// who is the actor, and for a step that waits for a later verb, that verb.
func (s *Step) who() string {
	if s.Later != "" {
		return s.Actor.String() + ", at " + s.Later
	}
	return s.Actor.String()
}

// Zoom is how closely Write looks.
type Zoom uint8

const (
	// Chapters tells the story: a heading for each chapter and every
	// different reason in it once.
	Chapters Zoom = iota
	// Steps shows every call under its reason.
	Steps
)

// Write prints the plan for a person.
func (p *Plan) Write(w io.Writer, zoom Zoom) error {
	var b strings.Builder
	chapter, why := Chapter(""), ""
	told := map[string]bool{} // the reasons of this chapter
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Chapter != chapter {
			if chapter != "" {
				b.WriteByte('\n')
			}
			chapter, why = s.Chapter, ""
			clear(told)
			b.WriteString("# " + string(chapter) + "\n")
		}
		if reason := s.who() + ": " + s.Why; s.Why != why && !(zoom == Chapters && told[reason]) {
			why = s.Why
			told[reason] = true
			b.WriteString("  " + reason + "\n")
		}
		if zoom == Steps {
			b.WriteString("    " + s.String() + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
