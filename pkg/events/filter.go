package events

import (
	"slices"
	"strings"
)

// FilterKeys are the keys that Filters may have.
var FilterKeys = []string{"type", "event", "container", "image", "label"}

// Filters choose events, with docker's rules. Values of one key are alternatives, but
// labels must all be there; every key must be met.
type Filters map[string][]string

// Match reports whether an event is chosen.
func (f Filters) Match(e Event) bool {
	return f.any("type", func(v string) bool { return v == e.Type }) &&
		f.any("event", func(v string) bool { return v == e.Status() || v == e.Action }) &&
		f.any("container", func(v string) bool { return e.Type == Container && e.isOf(v, e.Attributes["name"]) }) &&
		f.any("image", e.isOfImage) &&
		!slices.ContainsFunc(f["label"], func(v string) bool { return !e.hasAttribute(v) })
}

func (f Filters) any(key string, match func(string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], match)
}

// isOf reports whether v is the object's name or the beginning of its id.
func (e Event) isOf(v, name string) bool { return v == name || v != "" && strings.HasPrefix(e.ID, v) }

// isOfImage reports whether the event is about the image v or a container of it. A name
// without a tag means all tags.
func (e Event) isOfImage(v string) bool {
	names := []string{e.Attributes["image"]}
	if e.Type == Image {
		names = []string{e.ID, e.Attributes["name"]}
	}
	return slices.ContainsFunc(names, func(n string) bool { return n != "" && (n == v || withoutTag(n) == v) })
}

// withoutTag cuts the tag off a reference: what follows the last colon, unless that belongs to
// a registry's port or to a digest.
func withoutTag(name string) string {
	i := strings.LastIndexByte(name, ':')
	if i < 0 || strings.ContainsAny(name[i:], "/") || strings.Contains(name, "@") {
		return name
	}
	return name[:i]
}

func (e Event) hasAttribute(v string) bool {
	name, value, exact := strings.Cut(v, "=")
	have, ok := e.Attributes[name]
	return ok && (!exact || have == value)
}
