package shellword

import (
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

// Whatever bytes a string holds, bash reads them back, and nothing else happens.
func TestQuote(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skipf("bash is not installed: %v", err)
	}
	list := []string{"", " ", "~", "a=b", "-n", "$x", "`id`", "$(id)", "it's", `\`, `a\nb`, "a\nb", "\x01\x7f\xff\xfe", "é", "*", "#", "!x", "\u2028", "\n\n", "''", "a'b\\'c"}
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		b := make([]byte, r.IntN(12))
		for i := range b {
			b[i] = byte(1 + r.IntN(255))
		}
		list = append(list, string(b))
	}
	var script, want strings.Builder
	for _, s := range list {
		q := Quote(s)
		if strings.ContainsAny(q, "\n\r\t") || strings.IndexFunc(q, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
			t.Errorf("%q is quoted as %q", s, q)
		}
		script.WriteString("printf '%s\\0' " + q + "\n")
		want.WriteString(s + "\x00")
	}
	cmd := exec.Command(bash)
	cmd.Stdin = strings.NewReader(script.String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(string(out), "\x00")
	for i, s := range list {
		if i >= len(got) || got[i] != s {
			t.Fatalf("%q, quoted as %s, is read as %q", s, Quote(s), got[i])
		}
	}
}

// A shell that does not know the form with escapes reads other bytes, but as one word; and all that needs no escapes it reads rightly.
func TestQuoteStaysOneWordForOldShells(t *testing.T) {
	dash, err := exec.LookPath("dash")
	if err != nil {
		t.Skipf("dash is not installed: %v", err)
	}
	for s, right := range map[string]bool{
		"": true, "it's": true, "'; echo broken; '": true, `\'; echo broken; '\`: true, "$(echo broken)`echo broken`": true,
		"\n'; echo broken #": false, "\x1b' && echo broken": false, "\\'\n'; echo broken": false,
	} {
		out, err := exec.Command(dash, "-c", `set -- `+Quote(s)+`; printf '%s %s' $# "$1"`).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "1 ") || right && string(out) != "1 "+s {
			t.Errorf("%q, quoted as %s: %q, %v", s, Quote(s), out, err)
		}
	}
}

func TestJoin(t *testing.T) {
	if got, want := Join("a", "b c", "", "$x"), "a 'b c' '' '$x'"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
