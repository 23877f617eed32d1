package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the directory of the module, from the directory that tests run in.
const root = "../.."

// block is a fenced block of a document.
type block struct {
	line int // of its first line of text, counted from 1
	info string
	text string
	next int // index of the line after the closing fence
}

// blocks finds the fenced blocks of a document. An open block ends with the document.
func blocks(text string) []block {
	lines := strings.Split(text, "\n")
	var all []block
	for i := 0; i < len(lines); i++ {
		info, fence := strings.CutPrefix(lines[i], "```")
		if !fence {
			continue
		}
		b := block{line: i + 2, info: strings.TrimSpace(info)}
		for i++; i < len(lines) && lines[i] != "```"; i++ {
			b.text += lines[i] + "\n"
		}
		b.next = i + 1
		all = append(all, b)
	}
	return all
}

// prose is a document without its fenced blocks; lines keep their numbers.
func prose(text string) string {
	lines := strings.Split(text, "\n")
	for _, b := range blocks(text) {
		for i := b.line - 2; i < min(b.next, len(lines)); i++ {
			lines[i] = ""
		}
	}
	return strings.Join(lines, "\n")
}

// example is a block that is executed, and what it must print.
type example struct {
	block
	needs []string // programs that must be installed
	want  string
	tells bool // want is there
}

func examples(text string) []example {
	lines := strings.Split(text, "\n")
	all := blocks(text)
	var out []example
	for i, b := range all {
		words := strings.Fields(b.info)
		if len(words) == 0 || words[0] != "sh" {
			continue
		}
		e := example{block: b}
		if len(words) > 2 && words[1] == "needs" {
			e.needs = words[2:]
		}
		if i+1 < len(all) && all[i+1].info == "text" && blank(lines[b.next:all[i+1].line-2]) {
			e.want, e.tells = all[i+1].text, true
		}
		out = append(out, e)
	}
	return out
}

func blank(lines []string) bool {
	return !slices.ContainsFunc(lines, func(l string) bool { return strings.TrimSpace(l) != "" })
}

// dots stands for any lines, or any text in a line.
const dots = "..."

// mismatch is the first line of want that got cannot be made to fit, or "" if it fits as a whole.
func mismatch(want, got string) string {
	w, g := trimmed(want), trimmed(got)
	furthest := 0
	seen := map[[2]int]bool{}
	var fits func(i, j int) bool
	fits = func(i, j int) bool {
		furthest = max(furthest, i)
		switch {
		case i == len(w):
			return j == len(g)
		case seen[[2]int{i, j}]:
			return false
		}
		seen[[2]int{i, j}] = true
		if strings.TrimSpace(w[i]) == dots {
			return fits(i+1, j) || j < len(g) && fits(i, j+1)
		}
		return j < len(g) && lineFits(w[i], g[j]) && fits(i+1, j+1)
	}
	switch {
	case fits(0, 0):
		return ""
	case furthest == len(w):
		return "(end)"
	}
	return w[furthest]
}

func trimmed(text string) []string {
	text = strings.TrimRight(text, "\n ")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \r")
	}
	return lines
}

func lineFits(want, got string) bool {
	parts := strings.Split(want, dots)
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(got)
}

// documents lists the Markdown files that people write or read, below the root of the module.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(root, f)
			all[name] = string(text)
		}
	}
	return all
}

func TestBlocksAndExamples(t *testing.T) {
	text := "a\n```sh needs strace\ncmd\n```\n\n```text\nout\n```\nwords\n```sh\nx\n```\nwords\n```text\nno\n```\n```\nopen"
	got := examples(text)
	if len(got) != 2 {
		t.Fatalf("%d examples, want 2: %+v", len(got), got)
	}
	if e := got[0]; e.text != "cmd\n" || !e.tells || e.want != "out\n" || len(e.needs) != 1 || e.line != 3 {
		t.Errorf("first: %+v", e)
	}
	if e := got[1]; e.text != "x\n" || e.tells {
		t.Errorf("a text block after words is no expectation: %+v", e)
	}
	if p := prose(text); strings.Contains(p, "cmd") || strings.Contains(p, "open") || !strings.Contains(p, "words") {
		t.Errorf("prose: %q", p)
	}
}

func TestMismatch(t *testing.T) {
	for _, c := range []struct{ want, got, miss string }{
		{"a\nb\n", "a\nb\n", ""},
		{"a\n", "a\nb\n", "(end)"},
		{"a\nc\n", "a\nb\n", "c"},
		{"...\nb\n", "a\na\nb\n", ""},
		{"a\n...\nb\n...\n", "a\nb\n", ""},
		{"...\nb\n...\nb\n", "b\n", "b"},
		{"pid ... of x.y\n", "pid 17 of x.y\n", ""},
		{"pid ... of x.y\n", "pid 17 of xzy\n", "pid ... of x.y"},
		{"", "\n", ""},
		{"", "a\n", "(end)"},
	} {
		if miss := mismatch(c.want, c.got); miss != c.miss {
			t.Errorf("mismatch(%q, %q) = %q, want %q", c.want, c.got, miss, c.miss)
		}
	}
}
