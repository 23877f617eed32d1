package present

import (
	"errors"
	"strings"
	"testing"
	"time"
)

type row struct {
	ID, Name string
	Ports    []string
}

var rows = []row{{ID: "a1", Name: "web", Ports: []string{"80", "443"}}, {ID: "b2", Name: "a longer name"}}

var list = List{Columns: []Column{{"ID", "CONTAINER ID"}, {"Name", "NAMES"}}, Titles: []Column{{"Ports", "PORTS"}}}

func TestRowsInEveryForm(t *testing.T) {
	for format, want := range map[string]string{
		"":                                      "CONTAINER ID   NAMES\na1             web\nb2             a longer name\n",
		"table":                                 "CONTAINER ID   NAMES\na1             web\nb2             a longer name\n",
		`table {{.Name}}\t{{.ID}}`:              "NAMES           CONTAINER ID\nweb             a1\na longer name   b2\n",
		`table {{upper .Name}}\t{{.Ports}}`:     "NAMES           PORTS\nWEB             [80 443]\nA LONGER NAME   []\n",
		`table {{join .Ports ","}}`:             "PORTS\n80,443\n\n",
		"json":                                  `{"ID":"a1","Name":"web","Ports":["80","443"]}` + "\n" + `{"ID":"b2","Name":"a longer name","Ports":null}` + "\n",
		`{{json .}}`:                            `{"ID":"a1","Name":"web","Ports":["80","443"]}` + "\n" + `{"ID":"b2","Name":"a longer name","Ports":null}` + "\n",
		`{{.ID}}:{{title .Name}}`:               "a1:Web\nb2:A longer name\n",
		`{{truncate .Name 2}}{{pad .ID 1 0}}`:   "we a1\na  b2\n",
		`{{index (split .Name " ") 0 | lower}}`: "web\na\n",
		`{{.ID}}\t{{.ID}}`:                      "a1\ta1\nb2\tb2\n",
	} {
		l := list
		l.Format = format
		var b strings.Builder
		if err := Rows(&b, l, rows); err != nil {
			t.Errorf("%q: %v", format, err)
		}
		if b.String() != want {
			t.Errorf("%q:\n got %q\nwant %q", format, b.String(), want)
		}
	}
}

func TestATemplateThatFailsPrintsNothing(t *testing.T) {
	for format, want := range map[string][2]string{
		"{{.ID}} {{.Nope}}":          {"--format: <.Nope>: can't evaluate field Nope", "there are .ID .Name .Ports"},
		"table {{.Nope}}":            {`--format: <.Nope>: map has no entry for key "Nope"`, "there are .ID .Name .Ports"},
		"{{.ID":                      {"--format: template: 1: unclosed action", "it is a template of Go's text/template, such as '{{.ID}}', or json"},
		"{{if .Ports}}{{.X}}{{end}}": {"--format: <.X>: can't evaluate field X", "there are .ID .Name .Ports"},
	} {
		l := list
		l.Format = format
		var b strings.Builder
		err := Rows(&b, l, rows)
		var e *Error
		if !errors.As(err, &e) || e.Text != want[0] || e.Hint != want[1] {
			t.Errorf("%q: %v, hint %q", format, err, e.Hint)
		}
		if b.Len() > 0 {
			t.Errorf("%q printed %q", format, b.String())
		}
	}
}

// Rows may differ in what a map of theirs has.
func TestWhatAMapHasNot(t *testing.T) {
	type labelled struct{ Labels map[string]string }
	var b strings.Builder
	err := Rows(&b, List{Format: "<{{.Labels.a}}>"}, []labelled{{map[string]string{"a": "1"}}, {nil}})
	if err != nil || b.String() != "<1>\n<>\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestNoRows(t *testing.T) {
	var b strings.Builder
	if err := Rows(&b, list, []row{}); err != nil || b.String() != "CONTAINER ID   NAMES\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	b.Reset()
	l := list
	l.NoHeading = true
	if err := Rows(&b, l, rows[:1]); err != nil || b.String() != "a1   web\n" {
		t.Errorf("without heading: %q, %v", b.String(), err)
	}
}

func TestDocumentsKnowBothNames(t *testing.T) {
	type document struct {
		ID   string `json:"Id"`
		Size int64
		HTML string
	}
	docs := []document{{"x", 12345678901, "<a>"}}
	for format, want := range map[string]string{
		"":                       "[\n    {\n        \"Id\": \"x\",\n        \"Size\": 12345678901,\n        \"HTML\": \"<a>\"\n    }\n]\n",
		"json":                   `{"Id":"x","Size":12345678901,"HTML":"<a>"}` + "\n",
		"{{.ID}} {{json .Size}}": "x 12345678901\n",
		"{{.Id}} {{.Size}}":      "x 12345678901\n",
	} {
		var b strings.Builder
		if err := Documents(&b, format, docs); err != nil || b.String() != want {
			t.Errorf("%q: %q, %v", format, b.String(), err)
		}
	}
	var b strings.Builder
	if err := Documents(&b, "", []document(nil)); err != nil || b.String() != "[]\n" {
		t.Errorf("none: %q, %v", b.String(), err)
	}
	err := Documents(&b, "{{.Nope}}", docs)
	var e *Error
	if !errors.As(err, &e) || e.Hint != "there are .ID .Size .HTML" {
		t.Errorf("unknown field: %v", err)
	}
}

func TestFilters(t *testing.T) {
	f, err := ParseFilters([]string{"label=a", "label=b=1", "name=we*", "name=db", "dangling=true", "label!=c"}, "label", "label!", "name", "dangling")
	if err != nil {
		t.Fatal(err)
	}
	if !f.Labels("label", map[string]string{"a": "x", "b": "1"}) || f.Labels("label", map[string]string{"a": "x", "b": "2"}) || f.Labels("label", nil) {
		t.Error("labels must all be there")
	}
	if !f.NoLabels("label!", map[string]string{"a": ""}) || f.NoLabels("label!", map[string]string{"c": "x"}) {
		t.Error("label! keeps what has none of them")
	}
	if !f.Glob("name", "web") || !f.Glob("name", "x", "mydb1") || f.Glob("name", "x") || !f.Glob("other", "x") {
		t.Error("names are alternatives, patterns or parts")
	}
	if v, given, err := f.Bool("dangling"); !v || !given || err != nil {
		t.Error("dangling")
	}
	if !f.Exactly("name", "db") || f.Exactly("name", "web") || !f.Exactly("none", "x") {
		t.Error("exactly")
	}
}

func TestFiltersThatAreNone(t *testing.T) {
	for value, want := range map[string]string{
		"color=red": `--filter color=red: there is no filter "color" here`,
		"dangling":  "--filter dangling: it is not KEY=VALUE",
	} {
		_, err := ParseFilters([]string{value}, "dangling", "label")
		var e *Error
		if !errors.As(err, &e) || e.Text != want || e.Hint != "filters are dangling, label" {
			t.Errorf("%s: %v", value, err)
		}
	}
	f, err := ParseFilters([]string{"dangling=perhaps", "until=soon"}, "dangling", "until")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Bool("dangling"); err == nil || err.Error() != "--filter dangling=perhaps: use true or false" {
		t.Error(err)
	}
	if _, err := f.Until("until", time.Now()); err == nil || err.Error() != "--filter until=soon: it is neither a time nor a duration" {
		t.Error(err)
	}
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.Local)
	for s, want := range map[string]time.Time{
		"24h":                  now.Add(-24 * time.Hour),
		"90m":                  now.Add(-90 * time.Minute),
		"2026-01-02":           time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
		"2026-01-02T03:04:05":  time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local),
		"2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"1700000000":           time.Unix(1700000000, 0),
		"1700000000.5":         time.Unix(1700000000, 5e8),
	} {
		if got, err := ParseTime(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "x", "1.x", "2026-13-01"} {
		if got, err := ParseTime(s, now); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
	f := Filters{"until": {"1h", "48h"}}
	if got, err := f.Until("until", now); err != nil || !got.Equal(now.Add(-48*time.Hour)) {
		t.Errorf("earliest: %v, %v", got, err)
	}
}

func TestWordsForPeople(t *testing.T) {
	now := time.Unix(1e9, 0)
	for got, want := range map[string]string{
		Size(12345678):                       "12.35MB",
		Since(now.Add(-3*time.Hour), now):    "3 hours ago",
		Since(time.Unix(0, 0), now):          "-",
		Since(time.Time{}, now):              "-",
		ID("sha256:0123456789abcdef", false): "0123456789ab",
		ID("sha256:0123456789abcdef", true):  "sha256:0123456789abcdef",
		ID("short", false):                   "short",
		Ellipsis("häuser", 6):                "häuser",
		Ellipsis("häuser", 4):                "häu…",
		truncate("häuser", 2):                "hä",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
