// Package planjson writes a plan as JSON and reads it back.
//
// # Theory of operation
//
// A plan is plain data, so nothing is lost: Decode(Encode(p)) equals p, whatever
// the strings in it hold. That is what lets a plan be kept next to a container,
// compared by other tools, or sent to a machine of another architecture and
// lowered there.
//
// The document is
//
//	{"version": 1, "steps": [
//	  {"actor": "child", "chapter": "root file system", "why": "a new proc: ...",
//	   "call": "fsopen", "type": "Fsopen", "args": {"Type": "proc"},
//	   "result": "fs", "from": "/mounts/0",
//	   "text": "fs = fsopen(\"proc\", FSOPEN_CLOEXEC)"},
//	  ...]}
//
// What has its zero value is left out. "call" and "text" are for the reader;
// "type" and "args" are the Go type of package plan/linux and its fields, and they
// are what counts. Three values have a form of their own: errors are names
// ("ENOENT"), a string that is not UTF-8 is {"base64": "..."}, and a number that a
// double cannot hold exactly is a string of digits, because most readers of JSON
// know no other numbers.
//
// It is a package of its own so that programs that never write a plan down, such as
// the OCI runtime, do not carry it: reflection and package json have a price at
// every start.
package planjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// version is what Encode writes and the only one that Decode reads.
const version = 1

// ErrFormat means that a document is no plan that this package understands.
var ErrFormat = errors.New("not a plan")

type document struct {
	Version int    `json:"version"`
	Steps   []step `json:"steps"`
}

// step is a plan.Step as it is written down.
type step struct {
	Actor       string       `json:"actor"`
	Chapter     plan.Chapter `json:"chapter"`
	Why         text         `json:"why"`
	Call        string       `json:"call"`
	Type        string       `json:"type"`
	Args        *fields      `json:"args,omitempty"`
	Result      plan.Reg     `json:"result,omitempty"`
	Tolerate    *[]string    `json:"tolerate,omitempty"`
	TolerateAny bool         `json:"tolerateAny,omitempty"`
	When        string       `json:"when,omitempty"`
	ZeroFails   bool         `json:"zeroFails,omitempty"`
	Eager       bool         `json:"eager,omitempty"`
	Beside      bool         `json:"beside,omitempty"`
	Awaits      bool         `json:"awaits,omitempty"`
	Later       string       `json:"later,omitempty"`
	From        text         `json:"from,omitzero"`
	Undo        *undo        `json:"undo,omitempty"`
	Text        string       `json:"text,omitempty"`
}

// undo is the inverse of a host step.
type undo struct {
	Call string  `json:"call"`
	Type string  `json:"type"`
	Args *fields `json:"args,omitempty"`
}

// Encode writes the plan as indented JSON.
func Encode(w io.Writer, p *plan.Plan) error {
	doc := document{Version: version, Steps: make([]step, len(p.Steps))}
	for i := range p.Steps {
		if err := doc.Steps[i].from(&p.Steps[i]); err != nil {
			return fmt.Errorf("plan as JSON: step %d (%s): %w", i+1, p.Steps[i].Call.Name(), err)
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(&doc)
}

// Decode reads what Encode wrote. A document with an unknown version, call, field
// or name is refused with ErrFormat: half understood, it would be another plan.
func Decode(r io.Reader) (*plan.Plan, error) {
	var doc document
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if doc.Version != version {
		return nil, fmt.Errorf("%w: version %d, this is for version %d", ErrFormat, doc.Version, version)
	}
	p := new(plan.Plan)
	if len(doc.Steps) > 0 {
		p.Steps = make([]plan.Step, len(doc.Steps))
	}
	for i := range doc.Steps {
		if err := doc.Steps[i].to(&p.Steps[i]); err != nil {
			return nil, fmt.Errorf("%w: step %d (%s): %w", ErrFormat, i+1, doc.Steps[i].Call, err)
		}
	}
	return p, nil
}

// from takes over a step of a plan.
func (j *step) from(s *plan.Step) error {
	typ, args, err := writeCall(s.Call)
	if err != nil {
		return err
	}
	*j = step{Actor: s.Actor.String(), Chapter: s.Chapter, Why: text(s.Why), Call: s.Call.Name(), Type: typ, Args: args,
		Result: s.Result, TolerateAny: s.TolerateAny, ZeroFails: s.ZeroFails, Eager: s.Eager, Beside: s.Beside, Awaits: s.Awaits, Later: s.Later, From: text(s.From), Text: s.String()}
	if s.When != plan.Always {
		j.When = s.When.String()
	}
	if s.Tolerate != nil {
		names := make([]string, len(s.Tolerate))
		for i, e := range s.Tolerate {
			names[i] = e.Name()
		}
		j.Tolerate = &names
	}
	if s.Undo != nil {
		typ, args, err := writeCall(s.Undo)
		if err != nil {
			return fmt.Errorf("undo: %w", err)
		}
		j.Undo = &undo{Call: s.Undo.Name(), Type: typ, Args: args}
	}
	return nil
}

// to gives back the step of a plan.
func (j *step) to(s *plan.Step) error {
	call, err := readCall(j.Type, j.Args)
	if err != nil {
		return err
	}
	*s = plan.Step{Chapter: j.Chapter, Why: string(j.Why), Call: call, Result: j.Result,
		TolerateAny: j.TolerateAny, ZeroFails: j.ZeroFails, Eager: j.Eager, Beside: j.Beside, Awaits: j.Awaits, Later: j.Later, From: string(j.From)}
	if s.Actor, err = byName("actor", j.Actor, plan.Host, plan.Child, plan.Keeper); err != nil {
		return err
	}
	if j.When != "" {
		if s.When, err = byName("when", j.When, plan.Always, plan.Then, plan.Else, plan.Again); err != nil {
			return err
		}
	}
	if j.Tolerate != nil {
		s.Tolerate = make([]plan.Errno, len(*j.Tolerate))
		for i, name := range *j.Tolerate {
			if s.Tolerate[i], err = plan.ErrnoByName(name); err != nil {
				return err
			}
		}
	}
	if j.Undo != nil {
		if s.Undo, err = readCall(j.Undo.Type, j.Undo.Args); err != nil {
			return fmt.Errorf("undo: %w", err)
		}
	}
	return nil
}

// byName finds the value that prints as name.
func byName[T fmt.Stringer](what, name string, values ...T) (T, error) {
	for _, v := range values {
		if v.String() == name {
			return v, nil
		}
	}
	var none T
	return none, fmt.Errorf("unknown %s %q", what, name)
}

// readCall makes the call of a Go type out of its fields.
func readCall(typ string, args *fields) (plan.Call, error) {
	zero := linux.Zero(typ)
	if zero == nil {
		return nil, fmt.Errorf("unknown call type %q", typ)
	}
	if args == nil {
		return zero, nil
	}
	return args.fill(zero)
}

// unmarshal is json.Unmarshal that keeps numbers as digits.
func unmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(v)
}
