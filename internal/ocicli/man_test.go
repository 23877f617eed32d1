package ocicli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The manual page is written by hand, so it is checked: every verb has its section,
// as the usage text has it, and every flag its entry.
func TestManPageIsComplete(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "man", "containr-runtime.1"))
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), `\-`, "-")
	flag := regexp.MustCompile(`(?m)^  -([a-z0-9-]+)`)
	for _, v := range verbs {
		heading := strings.TrimSpace(".SS " + v.name + " " + v.args)
		if !strings.Contains(page, heading+"\n"+v.text+"\n") {
			t.Errorf("the page lacks %q, followed by %q", heading, v.text)
		}
		var out bytes.Buffer
		if code := Main([]string{v.name, "-h"}, os.Stdin, &out, &out); code != 0 {
			t.Fatalf("%s -h: exit code %d: %s", v.name, code, out.String())
		}
		section := sectionOf(page, v.name)
		if v.name == "create" || v.name == "explain" { // whose flags are those of run
			section += sectionOf(page, "run")
		}
		for _, m := range flag.FindAllStringSubmatch(out.String(), -1) {
			name := "--" + m[1]
			if len(m[1]) == 1 {
				name = "-" + m[1]
			}
			if !regexp.MustCompile(`(?m)^\.BR? (.*[ "])?` + name + `( |"|$)`).MatchString(section) {
				t.Errorf("the section on %s lacks %s", v.name, name)
			}
		}
	}
}

// sectionOf is the text of the page on one verb.
func sectionOf(page, verb string) string {
	_, section, _ := strings.Cut(page, "\n.SS "+verb+" ")
	section, _, _ = strings.Cut(section, "\n.S")
	return section
}
