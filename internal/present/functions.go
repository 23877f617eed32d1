package present

import (
	"bytes"
	"fmt"
	"strings"
	"text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/docker/go-units"
)

// functions are what a template may call besides Go's own: docker's.
var functions = template.FuncMap{
	"json":     toJSON,
	"split":    strings.Split,
	"join":     strings.Join,
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"title":    title,
	"pad":      pad,
	"truncate": truncate,
}

// headingFunctions take what functions take, and give back the title that they were given.
var headingFunctions = template.FuncMap{
	"json":     func(s any) any { return s },
	"split":    func(s, _ string) []string { return []string{s} },
	"join":     func(s any, _ string) any { return s },
	"lower":    func(s string) string { return s },
	"upper":    func(s string) string { return s },
	"title":    func(s string) string { return s },
	"pad":      pad,
	"truncate": func(s string, _ int) string { return s },
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	err := EncodeJSON(&b, v, "")
	return strings.TrimSuffix(b.String(), "\n"), err
}

// title begins the first word with a capital letter, as docker's does.
func title(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToTitle(first)) + s[size:]
}

// pad puts blanks around what is not empty.
func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
}

// truncate leaves the first n characters.
func truncate(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}

// Size is a number of bytes as people read it: 12.3MB, in powers of 1000.
func Size(bytes int64) string { return units.HumanSize(float64(bytes)) }

// Since says how long ago something was: "3 weeks ago". Times at or before 1970 are those of what was built
// reproducibly and say nothing: "-".
func Since(t, now time.Time) string {
	if t.Unix() <= 0 {
		return "-"
	}
	return units.HumanDuration(now.Sub(t)) + " ago"
}

// At is a time as docker lists it.
func At(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05 -0700 MST")
}

// ID is a digest or id as people read it: its first 12 digits, or all that there is if full is set.
func ID(id string, full bool) string {
	if full {
		return id
	}
	if _, digits, ok := strings.Cut(id, ":"); ok {
		id = digits
	}
	const shown = 12
	return id[:min(shown, len(id))]
}

// Ellipsis cuts s to at most n characters, the last of which then is "…".
func Ellipsis(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return fmt.Sprint(truncate(s, n-1), "…")
}
