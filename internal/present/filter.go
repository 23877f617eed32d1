package present

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filters are the values of --filter by their key. Values of one key are alternatives, those of several keys must all
// be met; but labels must all be met, as with docker.
type Filters map[string][]string

// ParseFilters reads the values of --filter. A key that is not known is an *[Error] that lists those that are.
func ParseFilters(values []string, known ...string) (Filters, error) {
	f := Filters{}
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok {
			return nil, &Error{Text: fmt.Sprintf("--filter %s: it is not KEY=VALUE", v), Hint: knownFilters(known)}
		}
		if !slices.Contains(known, key) {
			return nil, &Error{Text: fmt.Sprintf("--filter %s: there is no filter %q here", v, key), Hint: knownFilters(known)}
		}
		f[key] = append(f[key], strings.TrimSpace(value))
	}
	return f, nil
}

func knownFilters(known []string) string { return "filters are " + strings.Join(known, ", ") }

// Has reports whether a key was given.
func (f Filters) Has(key string) bool { return len(f[key]) > 0 }

// Any reports whether no value was given for key, or match holds for one of them.
func (f Filters) Any(key string, match func(value string) bool) bool {
	return !f.Has(key) || slices.ContainsFunc(f[key], match)
}

// Exactly reports whether key was not given, or with one of values.
func (f Filters) Exactly(key string, values ...string) bool {
	return f.Any(key, func(v string) bool { return slices.Contains(values, v) })
}

// Glob reports whether key was not given, or with a pattern (path.Match) that one of names has, or with a part of it.
func (f Filters) Glob(key string, names ...string) bool {
	return f.Any(key, func(pattern string) bool {
		return slices.ContainsFunc(names, func(n string) bool {
			ok, err := path.Match(pattern, n)
			return err == nil && ok || strings.Contains(n, pattern)
		})
	})
}

// Matching returns what reports whether key was not given, or with a regular expression that a part of one of names meets, as
// docker has it for names.
func (f Filters) Matching(key string) (match func(names ...string) bool, err error) {
	var all []*regexp.Regexp
	for _, v := range f[key] {
		r, err := regexp.Compile(v)
		if err != nil {
			return nil, &Error{Text: fmt.Sprintf("--filter %s=%s: it is not a regular expression: %v", key, v, err), Hint: `a name is one, "^web$" is "web" and no longer name`}
		}
		all = append(all, r)
	}
	return func(names ...string) bool {
		return len(all) == 0 || slices.ContainsFunc(all, func(r *regexp.Regexp) bool { return slices.ContainsFunc(names, r.MatchString) })
	}, nil
}

// Bool returns the value of a key that is true or false. given says whether there is one.
func (f Filters) Bool(key string) (value, given bool, err error) {
	for _, v := range f[key] {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return false, false, &Error{Text: fmt.Sprintf("--filter %s=%s: use true or false", key, v)}
		}
		if given && b != value {
			return false, false, &Error{Text: fmt.Sprintf("--filter %s: it cannot be both true and false", key)}
		}
		value, given = b, true
	}
	return value, given, nil
}

// Labels reports whether labels have all that key asks for: NAME, which any value meets, or NAME=VALUE.
func (f Filters) Labels(key string, labels map[string]string) bool {
	for _, want := range f[key] {
		if !hasLabel(labels, want) {
			return false
		}
	}
	return true
}

// NoLabels reports whether labels have none of what key asks for, as docker's "label!" wants it.
func (f Filters) NoLabels(key string, labels map[string]string) bool {
	return !slices.ContainsFunc(f[key], func(want string) bool { return hasLabel(labels, want) })
}

func hasLabel(labels map[string]string, want string) bool {
	name, value, exact := strings.Cut(want, "=")
	have, ok := labels[name]
	return ok && (!exact || have == value)
}

// Until returns the time that key asks for, the earliest if it was given several times; zero if it was not given. It is
// a time (RFC 3339, also without its last parts, or seconds since 1970), or a duration before now such as 24h.
func (f Filters) Until(key string, now time.Time) (time.Time, error) {
	var earliest time.Time
	for _, v := range f[key] {
		t, err := ParseTime(v, now)
		if err != nil {
			return time.Time{}, &Error{Text: fmt.Sprintf("--filter %s=%s: %v", key, v, err), Hint: "use a duration such as 24h, or a time such as 2026-01-31T12:00:00"}
		}
		if earliest.IsZero() || t.Before(earliest) {
			earliest = t
		}
	}
	return earliest, nil
}

// ParseTime reads a time, or a duration before now, as Until describes it.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	whole, fraction, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, fmt.Errorf("it is neither a time nor a duration")
	}
	const digits = 9 // of nanoseconds
	nanoseconds, err := strconv.ParseInt((fraction + "000000000")[:digits], 10, 64)
	return time.Unix(seconds, nanoseconds), err
}
