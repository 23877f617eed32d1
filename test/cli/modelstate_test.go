package cli_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An act is one command of a history: what was typed, what came of it, and when. Times are those of one clock
// that ticks at every beginning and end.
type act struct {
	Worker     int
	Verb       string
	Name, To   string `json:",omitempty"` // To is the new name of rename
	Outcome    string // one of the outcomes
	Said       string `json:",omitempty"` // what it printed, for people
	ID, Status string `json:",omitempty"` // of create the id; of look what it saw, both "" for nothing
	Begin, End int
	// Disturbed says that while it ran there was a command that ends containers, and Contended that there was
	// one that makes, names or removes what it wants: a name is reserved, and a container kept, before all others see it.
	Disturbed, Contended bool
	Took                 int64 // milliseconds, for people
}

func (a act) String() string {
	out := fmt.Sprintf("%4d to %4d  worker %d: %s %s", a.Begin, a.End, a.Worker, a.Verb, a.Name)
	if a.To != "" {
		out += " " + a.To
	}
	if a.Verb == settled {
		return out
	}
	if out += ": " + a.Outcome; a.ID != "" {
		out = strings.TrimRight(out+" "+a.ID[:min(12, len(a.ID))]+" "+a.Status, " ")
	}
	if a.Outcome == other {
		out += ": " + a.Said
	}
	return out
}

// Outcomes of commands. A command that was killed may have done its work, or not, and then nothing of it.
const (
	done       = "done"
	absent     = "no such container"
	inUse      = "name in use"
	isRunning  = "is running"
	notRunning = "not running"
	isPaused   = "paused"
	notPaused  = "not paused"
	cutShort   = "cut short" // its process was killed, by another command that ends the container
	other      = "another error"
	wasKilled  = "killed"
)

// Statuses. Dying is the model's own: a signal is on its way, and the container ends at some moment.
const (
	created, running, paused, exited, restarting = "created", "running", "paused", "exited", "restarting"
	dying                                        = "dying"
)

// unknownID is the id of a container whose create was killed before it could say it.
const unknownID = "?"

// nobody is what a name that nobody has leads to.
const nobody = "nobody"

// modelled is a state of the model: which name leads to which id, how those are that there are, and to which
// ids the names of the commands have led since these began, by the time of their beginning. It is not changed, but copied.
type modelled struct {
	names, status map[string]string
	found         map[int][]string
}

func (m modelled) key() string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m.names)) {
		fmt.Fprintf(&out, "%s=%s:%s ", name, m.names[name], m.status[m.names[name]])
	}
	for _, begin := range slices.Sorted(maps.Keys(m.found)) {
		fmt.Fprintf(&out, "%d=%v ", begin, m.found[begin])
	}
	return out.String()
}

func (m modelled) with(id, status string) modelled {
	m.status = maps.Clone(m.status)
	m.status[id] = status
	return m
}

func (m modelled) withName(name, id string) modelled {
	m.names = maps.Clone(m.names)
	m.names[name] = id
	return m
}

// find adds where the name of a command leads now to what it may have found.
func (m modelled) find(a act) modelled {
	id, known := m.names[a.Name]
	if !known {
		id = nobody
	}
	if ids := m.found[a.Begin]; !slices.Contains(ids, id) {
		m.found = maps.Clone(m.found)
		m.found[a.Begin] = append(slices.Clone(ids), id)
	}
	return m
}

// sameAs compares names and statuses.
func (m modelled) sameAs(o modelled) bool {
	return maps.Equal(m.names, o.names) && maps.Equal(m.status, o.status)
}

// without is the state in which a container has gone.
func (m modelled) without(id string) modelled {
	m.status, m.names = maps.Clone(m.status), maps.Clone(m.names)
	delete(m.status, id)
	maps.DeleteFunc(m.names, func(_, of string) bool { return of == id })
	return m
}

// learn gives the container, whose id was not known, this one.
func (m modelled) learn(was, id string) modelled {
	m = m.with(id, m.status[was])
	delete(m.status, was)
	m.names, m.found = maps.Clone(m.names), maps.Clone(m.found)
	for name, of := range m.names {
		if of == was {
			m.names[name] = id
		}
	}
	for begin, ids := range m.found {
		ids = slices.Clone(ids)
		if i := slices.Index(ids, was); i >= 0 {
			ids[i] = id
		}
		m.found[begin] = ids
	}
	return m
}

// phase is a part of a command that happens at one moment, to the container with this id: the state that it leads to from
// m; false if the command cannot have had its outcome then.
type phase func(m modelled, id string, a act) (modelled, bool)

// phases are what the commands are made of, and what is claimed of them. A command finds the container by its name, and
// from then on means it, whatever it is called. Then it does what it does at one moment, as all others see it, but
// for three: what is paused goes on for a moment before it is stopped, or killed by rm -f, whose signal thaws it; a restart ends the container and starts it,
// where who deals with the end may be quicker than the command, and somebody may stop it in between; rm -f kills and
// removes, and kills again what has been started in between. A start that is killed when the container can be seen to run already may end it, since its program is not
// executed any more: that it says, too (status 125).
var phases = map[string][]phase{
	"create":  {doCreate},
	"look":    {doLook},
	"listed":  {doLook},
	"start":   {doStart, doCutOff},
	"stop":    {doResume, doStop},
	"kill":    {doKill},
	"pause":   {doPause},
	"unpause": {doUnpause},
	"exec":    {doExec},
	"rm":      {doRemove},
	"rm -f":   {doResume, doStop, doRemove},
	"rename":  {doRename},
	"restart": {doResume, doStop, doMaybeStart, doStart},
}

// changesNothing reports whether an act has no effect. If it can have happened, it has: nothing is lost by that.
func (a act) changesNothing() bool {
	switch a.Verb {
	case "look", "listed", "exec":
		return true
	case "restart", "rm -f":
		return false
	}
	return a.Outcome != done && a.Outcome != wasKilled && (a.Outcome != cutShort || a.Verb == "pause" || a.Verb == "unpause")
}

// wholes are commands of which, if they are killed, all phases are made or none, after a while.
var wholes = map[string]bool{"restart": true}

func doCreate(m modelled, _ string, a act) (modelled, bool) {
	_, taken := m.names[a.Name]
	switch {
	case taken:
		return m, a.Outcome == inUse
	case a.Outcome == inUse:
		return m, a.Contended
	case a.Outcome == wasKilled:
		id := fmt.Sprint(unknownID, a.Begin)
		return m.withName(a.Name, id).with(id, created), true
	}
	return m.withName(a.Name, a.ID).with(a.ID, created), a.Outcome == done
}

// gone reports that a container is not there, or was not found. Then only the outcome absent fits.
func gone(m modelled, id string, a act) (gone, fits bool) {
	_, there := m.status[id]
	return !there, a.Outcome == absent || a.Verb == "rm -f"
}

func doLook(m modelled, id string, a act) (modelled, bool) {
	if gone, fits := gone(m, id, a); gone || a.Outcome == absent {
		return m, gone && fits
	}
	if _, known := m.status[a.ID]; strings.HasPrefix(id, unknownID) && !known {
		m, id = m.learn(id, a.ID), a.ID
	}
	s := m.status[id]
	return m, id == a.ID && (s == a.Status || s == dying && (a.Status == running || a.Status == paused) || s == restarting && a.Status == exited)
}

// doCutOff is what may follow a start that was killed.
func doCutOff(m modelled, id string, a act) (modelled, bool) {
	if a.Outcome != wasKilled {
		return m, true
	}
	return m.with(id, dying), m.status[id] == running
}

func doResume(m modelled, id string, _ act) (modelled, bool) {
	if m.status[id] == paused {
		m = m.with(id, running)
	}
	return m, true
}

func idle(status string) bool { return status == created || status == exited || status == restarting }

func doStart(m modelled, id string, a act) (modelled, bool) {
	if gone, fits := gone(m, id, a); gone {
		return m, fits
	}
	if a.Outcome == cutShort { // it has begun, and what ended it comes later
		return m.with(id, dying), a.Disturbed
	}
	if m.status[id] == paused && a.Outcome != wasKilled { // a restart meets one only if somebody else has started it, and a third one paused it
		return m, a.Outcome == isPaused || a.Outcome == done && a.Verb == "restart"
	}
	if idle(m.status[id]) {
		m = m.with(id, running)
	}
	return m, a.Outcome == done || a.Outcome == wasKilled
}

// doMaybeStart is the start by who deals with the end.
func doMaybeStart(m modelled, id string, _ act) (modelled, bool) {
	if m.status[id] == restarting {
		m = m.with(id, running)
	}
	return m, true
}

// doStop ends what runs. That of a restart may be followed by somebody's removal of the container.
func doStop(m modelled, id string, a act) (modelled, bool) {
	if gone, fits := gone(m, id, a); gone {
		return m, fits
	}
	switch {
	case a.Verb == "restart" && !idle(m.status[id]):
		m = m.with(id, restarting)
	case a.Verb != "restart" && m.status[id] != created:
		m = m.with(id, exited)
	}
	return m, a.Outcome == done || a.Outcome == wasKilled || (a.Outcome == absent || a.Outcome == cutShort) && a.Verb == "restart"
}

func doKill(m modelled, id string, a act) (modelled, bool) {
	if gone, fits := gone(m, id, a); gone {
		return m, fits
	}
	if idle(m.status[id]) || m.status[id] == dying && a.Outcome == notRunning {
		return m, a.Outcome == notRunning
	}
	return m.with(id, dying), a.Outcome == done || a.Outcome == wasKilled
}

// toggle is what pause, unpause and exec have in common: from is what the container must be, and refusals are the
// outcomes if it is something else. One that is dying may give any answer.
func toggle(m modelled, id string, a act, from, to string, refusals map[string]string) (modelled, bool) {
	if gone, fits := gone(m, id, a); gone {
		return m, fits
	}
	if a.Outcome == cutShort {
		return m, a.Disturbed || a.Contended
	}
	switch status := m.status[id]; {
	case status == dying:
		return m, true
	case idle(status):
		return m, a.Outcome == notRunning
	case status != from:
		return m, a.Outcome == refusals[status]
	}
	return m.with(id, to), a.Outcome == done || a.Outcome == wasKilled
}

func doPause(m modelled, id string, a act) (modelled, bool) {
	return toggle(m, id, a, running, paused, map[string]string{paused: isPaused})
}

func doUnpause(m modelled, id string, a act) (modelled, bool) {
	return toggle(m, id, a, paused, running, map[string]string{running: notPaused})
}

func doExec(m modelled, id string, a act) (modelled, bool) {
	return toggle(m, id, a, running, running, map[string]string{paused: isPaused})
}

func doRemove(m modelled, id string, a act) (modelled, bool) {
	if gone, fits := gone(m, id, a); gone {
		return m, fits
	}
	if !idle(m.status[id]) && a.Verb == "rm" {
		return m, a.Outcome == isRunning
	}
	if a.Outcome == isRunning {
		return m, a.Contended
	}
	return m.without(id), a.Outcome == done || a.Outcome == wasKilled
}

func doRename(m modelled, id string, a act) (modelled, bool) {
	if gone, fits := gone(m, id, a); gone {
		return m, fits
	}
	if _, taken := m.names[a.To]; taken {
		return m, a.Outcome == inUse
	}
	if a.Outcome == inUse {
		return m, a.Contended
	}
	m = m.withName(a.To, id)
	maps.DeleteFunc(m.names, func(name, of string) bool { return of == id && name != a.To })
	return m, a.Outcome == done || a.Outcome == wasKilled
}
