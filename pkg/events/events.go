// Package events keeps the journal of what happened to containers and images.
//
// # Theory of operation
//
// Nothing has to run for an event to be seen. Whoever does a thing, a command or the
// monitor, appends a line about it to a file below the state root, and whoever
// wants to know reads the files:
//
//	ROOT/events/NUMBER.jsonl   lines of JSON; the highest number is written to
//	ROOT/events/lock           flock(2), held while a line is added
//
// A line is added under the lock, with the time that it then is. So the order of the lines
// is the order of their times, whoever wrote them. A file that has grown to MaxFile gets a
// successor, and of all files the last MaxFiles stay: the journal never takes more than
// their product. A number is never used twice and a file is never renamed, so a reader that
// has come to the end of one looks for the next number.
//
// Readers take no lock and cannot hold up a writer. They wait for more with inotify(7).
//
// Lines are not flushed to the disk one by one, as that would make each start of a container
// wait for it: a power failure may take the last seconds. The death of a process cannot
// take a line that was added. It can leave a part of one, as can a full disk and a power failure:
// the next writer then begins a new line, and readers pass over what is no event.
package events

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containr/containr/internal/quickjson"
)

// Types of what events are about.
const (
	Container = "container"
	Image     = "image"
	Network   = "network" // Create, Destroy
	Volume    = "volume"  // Create, Destroy
)

// Actions of containers, in docker's words, in about the order of a life.
const (
	Create       = "create"
	Start        = "start"
	ExecCreate   = "exec_create"   // execID; and the command, see Event.Detail
	ExecStart    = "exec_start"    // the same
	ExecDie      = "exec_die"      // execID, exitCode
	HealthStatus = "health_status" // Detail is healthy or unhealthy
	Pause        = "pause"
	Unpause      = "unpause"
	Rename       = "rename" // oldName
	Update       = "update"
	OOM          = "oom"
	Kill         = "kill" // signal
	Die          = "die"  // exitCode, execDuration (seconds)
	Stop         = "stop"
	Restart      = "restart"
	Refused      = "refused" // by a policy of a network: direction, source, destination, protocol, port, packets
	LogGap       = "log_gap" // Detail says why output cannot be written to the log; or lost (bytes), when it can be again
	Copy         = "copy"
	Commit       = "commit"
	Export       = "export"
	Destroy      = "destroy"
	Prune        = "prune" // reclaimed (bytes); of images too
)

// Actions of images, which have their names as id.
const (
	Pull   = "pull"
	Push   = "push"
	Load   = "load"
	Save   = "save"
	Import = "import"
	Tag    = "tag"
	Untag  = "untag"
	Delete = "delete"
)

// Event is one thing that happened.
type Event struct {
	// Time is when it was written down, to the nanosecond. Append sets it.
	Time time.Time `json:"time"`
	// Type is Container, Image, or what other objects there may be.
	Type string `json:"type"`
	// Action is what happened to it.
	Action string `json:"action"`
	// Detail belongs to the action, and is printed behind it: the command of an exec, the
	// status of a health check.
	Detail string `json:"detail,omitempty"`
	// ID is that of the container, or the name or digest of the image.
	ID string `json:"id,omitempty"`
	// Attributes are the object's labels, its name and the image's, and those of the action.
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Attributes makes attributes of names and values in turn.
func Attributes(pairs ...string) map[string]string {
	all := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	return all
}

// Status is the action with its detail, as docker prints it.
func (e Event) Status() string {
	if e.Detail == "" {
		return e.Action
	}
	return e.Action + ": " + e.Detail
}

// timeLayout is that of docker: all nine digits, so that columns are straight.
const timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

// String is the event as docker prints it: time, type, action, id, attributes.
func (e Event) String() string {
	var attributes []string
	for _, name := range slices.Sorted(maps.Keys(e.Attributes)) {
		attributes = append(attributes, name+"="+e.Attributes[name])
	}
	text := fmt.Sprintf("%s %s %s %s", e.Time.Local().Format(timeLayout), e.Type, e.Status(), e.ID)
	if attributes != nil {
		text += " (" + strings.Join(attributes, ", ") + ")"
	}
	return text
}

// maxLine bounds an event, in bytes. Labels are what can be long in it.
const maxLine = 64 << 10

// line is the event as the journal has it. One that is too long loses the attributes that are
// longest, and says so in the attribute "truncated".
func (e Event) line() ([]byte, error) {
	text, err := quickjson.Append(nil, e)
	if err != nil || len(text) < maxLine {
		return append(text, '\n'), err
	}
	e.Attributes = maps.Clone(e.Attributes)
	for _, name := range slices.SortedFunc(maps.Keys(e.Attributes), e.longerFirst) {
		delete(e.Attributes, name)
		e.Attributes["truncated"] = "true"
		if text, err = quickjson.Append(nil, e); err != nil || len(text) < maxLine {
			return append(text, '\n'), err
		}
	}
	return nil, fmt.Errorf("event %s %s: %d bytes, of which %d are allowed", e.Type, e.Action, len(text), maxLine)
}

func (e Event) longerFirst(a, b string) int {
	return len(b) + len(e.Attributes[b]) - len(a) - len(e.Attributes[a])
}

// parse reads a line; ok is false for what is no whole event.
func parse(line string) (e Event, ok bool) {
	err := quickjson.Decode(line, &e)
	return e, err == nil && !e.Time.IsZero() && e.Type != "" && e.Action != ""
}
