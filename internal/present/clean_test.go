package present

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"
)

// hostile commands a terminal in every way there is: by ESC, by the controls of 8 bits, by the direction of text, by
// lines that are none, by bytes that are no text.
const hostile = "a\x1b]0;title\x07\u009b31m\x7f\u202eb\u2028\ue000\xff\U000e0001c\r"

// TestNothingCommandsTheTerminal: neither in a table, nor in JSON, whose value stays what it was.
func TestNothingCommandsTheTerminal(t *testing.T) {
	type cells struct {
		Name   string
		Labels map[string]string
	}
	rows := []cells{{Name: hostile + "\nforged\trow", Labels: map[string]string{hostile: hostile}}}
	for _, format := range []string{"", "table {{.Name}}\t{{.Labels}}", "json", "{{json .}}"} {
		var b strings.Builder
		if err := Rows(&b, List{Format: format, Columns: []Column{{"Name", "NAME"}, {"Labels", "LABELS"}}}, rows); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(b.String(), func(r rune) bool {
			return r != '\n' && (unicode.IsControl(r) || !unicode.IsGraphic(r) && !unicode.Is(unicode.Co, r))
		}); i >= 0 {
			t.Errorf("%q prints %q", format, b.String())
		}
		if isTable := !strings.Contains(format, "json"); isTable && strings.Count(b.String(), "\n") != 2 {
			t.Errorf("%q: a cell makes a line of its own: %q", format, b.String())
		}
	}
	var b strings.Builder
	if err := Documents(&b, "", rows); err != nil {
		t.Fatal(err)
	}
	var back []cells
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil || back[0].Name != strings.ToValidUTF8(rows[0].Name, "\ufffd") {
		t.Errorf("%q became %q, error %v", rows[0].Name, back[0].Name, err)
	}
}

func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"plain, ümlaut, 日本, e\u0301, 🙂\n\t": "plain, ümlaut, 日本, e\u0301, 🙂\n\t",
		"\x1b[31m":          "?[31m",
		"x\u009by\u2066z\r": "x?y?z?",
		"\xff\xfe":          "??",
	} {
		if got := Clean(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	var b strings.Builder
	if n, err := fmt.Fprint(Cleaner(&b), "a\x1bb"); n != 3 || err != nil || b.String() != "a?b" {
		t.Errorf("%q, %d bytes, error %v", b.String(), n, err)
	}
}

func FuzzEscapeJSON(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, text string) {
		plain, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		escaped := EscapeJSON(plain)
		var a, b string
		if json.Unmarshal(plain, &a) != nil || json.Unmarshal(escaped, &b) != nil || a != b {
			t.Errorf("%q became %q", plain, escaped)
		}
		if string(escaped) != Clean(string(escaped)) {
			t.Errorf("%q still commands", escaped)
		}
	})
}
