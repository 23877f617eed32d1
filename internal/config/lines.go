package config

import "strings"

// places remembers on which line a key is set, for messages. The parser of TOML tells only where syntax is wrong.
type places map[[2]string]int

// findLines goes through a text that is known to be TOML, and notes the headings and the keys that begin lines. What it
// takes for a key inside of a text of several lines does no harm: the first line counts.
func findLines(text string) places {
	found := places{}
	note := func(section, key string, line int) {
		if _, ok := found[[2]string{section, key}]; !ok {
			found[[2]string{section, key}] = line
		}
	}
	section, number := "", 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if heading, ok := strings.CutPrefix(line, "["); ok && !strings.HasPrefix(heading, "[") {
			if name, _, closed := strings.Cut(heading, "]"); closed && !strings.ContainsAny(name, ",=") {
				section = unquote(name)
				note("", section, number)
				continue
			}
		}
		key, _, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		key = strings.TrimSpace(key)
		if table, below, dotted := strings.Cut(key, "."); dotted && section == "" {
			note("", unquote(table), number)
			note(unquote(table), unquote(below), number)
			continue
		}
		note(section, unquote(key), number)
	}
	return found
}

func unquote(name string) string { return strings.Trim(strings.TrimSpace(name), `"'`) }

// line is where a key is set, or else its table begins.
func (p places) line(section, key string) int {
	if n, ok := p[[2]string{section, key}]; ok {
		return n
	}
	return p[[2]string{"", section}]
}
