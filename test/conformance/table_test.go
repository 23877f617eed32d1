package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// document is the page with the table, between these two lines.
var document = filepath.Join("..", "..", "docs", "conformance.md")

const begin, end = "<!-- made by the run -->\n", "<!-- end -->\n"

// results are outcomes by program and by runtime.
type results map[string]map[string]outcome

// table prints the results.
func table(programs []string, list []peer, r results) string {
	var b strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	head, rule := []string{"program"}, []string{"---"}
	for _, p := range list {
		title := p.name
		if p.name != list[0].name {
			title += " " + p.version
		}
		head, rule = append(head, title), append(rule, "---")
	}
	row(append(head, "remark")...)
	row(append(rule, "---")...)
	passed := make([]int, len(list))
	for _, program := range programs {
		cells := []string{"`" + program + "`"}
		for i, p := range list {
			o := r[program][p.name]
			if o.ok() {
				passed[i]++
			}
			cells = append(cells, o.String())
		}
		row(append(cells, notes[program].text)...)
	}
	cells := []string{fmt.Sprintf("passed of %d", len(programs))}
	for _, n := range passed {
		cells = append(cells, fmt.Sprint(n))
	}
	row(append(cells, "")...)
	return b.String()
}

// writeTable puts the table into the page.
func writeTable(t *testing.T, text string) {
	t.Helper()
	before, _, after := readPage(t)
	if err := os.WriteFile(document, []byte(before+begin+text+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readPage returns the page in three parts, the table in the middle.
func readPage(t *testing.T) (before, middle, after string) {
	t.Helper()
	page, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	middle, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has not the lines %q and %q", document, begin, end)
	}
	return before, middle, after
}

// promised are the programs that the page says containr-runtime passes.
func promised(t *testing.T) map[string]bool {
	t.Helper()
	_, text, _ := readPage(t)
	all := map[string]bool{}
	for line := range strings.Lines(text) {
		cells := strings.Split(line, " | ")
		if name := strings.Trim(cells[0], "| "); len(cells) > 2 && cells[1] == "passes" {
			all[strings.Trim(name, "`")] = true
		}
	}
	return all
}
