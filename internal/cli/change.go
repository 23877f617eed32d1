package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

// applyChange does one instruction of a Dockerfile that says how to run an image:
// CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR. A
// command is a JSON list, or a line for /bin/sh.
func applyChange(c *v1.ImageConfig, instruction string) error {
	name, rest, _ := strings.Cut(strings.TrimSpace(instruction), " ")
	rest = strings.TrimSpace(rest)
	if rest == "" {
		return fmt.Errorf("%q: nothing after the instruction", instruction)
	}
	switch strings.ToUpper(name) {
	case "CMD":
		return setCommand(&c.Cmd, rest)
	case "ENTRYPOINT":
		return setCommand(&c.Entrypoint, rest)
	case "ENV":
		return eachPair(rest, func(key, value string) {
			c.Env = slices.DeleteFunc(c.Env, func(old string) bool { return strings.HasPrefix(old, key+"=") })
			c.Env = append(c.Env, key+"="+value)
		})
	case "LABEL":
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		return eachPair(rest, func(key, value string) { c.Labels[key] = value })
	case "EXPOSE":
		return setNames(&c.ExposedPorts, rest, "/tcp")
	case "VOLUME":
		return setNames(&c.Volumes, rest, "")
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "USER":
		c.User = rest
	case "WORKDIR":
		c.WorkingDir = rest
	default:
		return fmt.Errorf("%q: use CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR", name)
	}
	return nil
}

func setCommand(to *[]string, text string) error {
	*to = nil
	if !strings.HasPrefix(text, "[") {
		*to = []string{"/bin/sh", "-c", text}
		return nil
	}
	if err := json.Unmarshal([]byte(text), to); err != nil {
		return fmt.Errorf("%s: not a list of strings in JSON", text)
	}
	return nil
}

// eachPair reads KEY=VALUE ..., or KEY VALUE as in old Dockerfiles.
func eachPair(text string, do func(key, value string)) error {
	words, err := splitWords(text)
	if err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	if len(words) > 1 && !strings.Contains(words[0], "=") {
		do(words[0], strings.Join(words[1:], " "))
		return nil
	}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q: not KEY=VALUE", w)
		}
		do(key, value)
	}
	return nil
}

// setNames adds the names in text, a list of words or a JSON list, to a set. A
// name without a slash gets the suffix.
func setNames(to *map[string]struct{}, text, suffix string) error {
	names := strings.Fields(text)
	if strings.HasPrefix(text, "[") {
		if err := json.Unmarshal([]byte(text), &names); err != nil {
			return fmt.Errorf("%s: not a list of strings in JSON", text)
		}
	}
	if *to == nil {
		*to = map[string]struct{}{}
	}
	for _, n := range names {
		if !strings.Contains(n, "/") {
			n += suffix
		}
		(*to)[n] = struct{}{}
	}
	return nil
}
