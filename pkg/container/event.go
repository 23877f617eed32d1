package container

import (
	"maps"

	"github.com/containr/containr/pkg/events"
)

// Event is an event of this container: its labels, its name and the image's, and what the
// action has besides, names and values in turn.
func (r Record) Event(action string, attributes ...string) events.Event {
	all := map[string]string{}
	maps.Copy(all, r.Config.Labels)
	all["name"] = r.Name
	if r.Config.Image != "" {
		all["image"] = r.Config.Image
	}
	maps.Copy(all, events.Attributes(attributes...))
	return events.Event{Type: events.Container, Action: action, ID: r.ID, Attributes: all}
}
