package spelling

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNearest(t *testing.T) {
	words := []string{"run", "rmi", "images", "import"}
	for in, want := range map[string]string{"imges": "images", "imprt": "import", "rnu": "run", "xyz": "", "": ""} {
		if got := Nearest(in, words); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// The rule in words that can be checked: a regular expression.
func TestIsName(t *testing.T) {
	rule := regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,7}$`)
	check := func(s string) bool { return IsName(s, 8) == rule.MatchString(s) }
	for _, s := range []string{"", "a", "-a", "a-", "..", "a..", "a/b", "a\n", "\n", "é", "aé", "a b", "a@b", "12345678", "123456789", strings.Repeat("a", 8), "a\x00", "[", "a{", "A`", "a:"} {
		if !check(s) {
			t.Errorf("%q: %t", s, IsName(s, 8))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		if s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]{0,9}`), rapid.StringMatching(`[a-zA-Z0-9_.@-]{0,9}`)).Draw(t, "s"); !check(s) {
			t.Errorf("%q: %t", s, IsName(s, 8))
		}
	})
}

func TestEditDistanceIsAMetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[ab]{0,6}`)
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := editDistance(a, b)
		if d != editDistance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Errorf("distance of %q and %q is %d", a, b, d)
		}
	})
}
