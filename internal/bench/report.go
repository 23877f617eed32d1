package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// table is a table of the document.
type table struct {
	title, text string
	head        []string
	// rule is what stands below the heads of all columns but the first.
	rule string
	rows [][]string
}

// Rules: numbers stand on the right, words on the left.
const (
	numbers = "---:"
	words   = "---"
)

// statistic sums up numbers that are in no order.
type statistic struct{ min, median, p90 float64 }

func summarize(values []float64) statistic {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	if n == 0 {
		return statistic{}
	}
	return statistic{min: s[0], median: (s[(n-1)/2] + s[n/2]) / 2, p90: s[min(n-1, n*9/10)]}
}

// raceTable shows a race's times, and what the first contestant, which is ours, took
// of the time of each other one: the median over the rounds of the ratio in the round.
func raceTable(title, text string, contestants []*contestant) table {
	t := table{title: title, text: text + failures(contestants), rule: numbers, head: []string{"", "n", "median ms", "min", "p90", "CPU ms", "ours / this"}}
	ours := contestants[0]
	for _, c := range contestants {
		var wall, cpu, ratio []float64
		for i, s := range c.samples {
			wall = append(wall, milliseconds(s.wall))
			cpu = append(cpu, milliseconds(s.cpu))
			ratio = append(ratio, milliseconds(ours.samples[i].wall)/milliseconds(s.wall))
		}
		w := summarize(wall)
		row := []string{c.name, fmt.Sprint(len(wall)), number(w.median), number(w.min), number(w.p90), number(summarize(cpu).median), ""}
		if c != ours {
			row[6] = fmt.Sprintf("%.2f", summarize(ratio).median)
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// failures tells which contestants have failed now and then.
func failures(contestants []*contestant) (text string) {
	for _, c := range contestants {
		if c.failed > 0 {
			text += fmt.Sprintf(" %s failed %d times, in rounds that count for nobody; at first: %v.", c.name, c.failed, c.failure)
		}
	}
	return text
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// number prints milliseconds with the digits that mean something.
func number(ms float64) string {
	if ms >= 100 {
		return fmt.Sprintf("%.0f", ms)
	}
	return fmt.Sprintf("%.2f", ms)
}

// write appends the table as Markdown whose columns stand in line.
func (t table) write(out *bytes.Buffer) {
	fmt.Fprintf(out, "### %s\n\n", t.title)
	if t.text != "" {
		fmt.Fprintf(out, "%s\n\n", t.text)
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	line := func(cells []string) { fmt.Fprintln(w, "| "+strings.Join(cells, "\t| ")+"\t|") }
	line(t.head)
	rule := []string{"---"}
	for range t.head[1:] {
		rule = append(rule, t.rule)
	}
	line(rule)
	for _, row := range t.rows {
		line(row)
	}
	w.Flush() // a bytes.Buffer takes everything
	out.WriteByte('\n')
}

// The markers in the document that the figures stand between, and what begins a section of them.
const (
	beginMark   = "<!-- figures: written by make bench -->\n"
	endMark     = "<!-- end of figures -->\n"
	sectionMark = "<!-- section %s -->\n"
)

// part is a section's text in the document.
type part struct {
	name string
	text []byte
}

// part makes the text of a section: when and where it was measured, for the others may be of another day, and its tables.
func (b *bench) part(name string, tables []table) part {
	var out bytes.Buffer
	var u unix.Utsname
	_ = unix.Uname(&u) // it has no way to fail
	fmt.Fprintf(&out, sectionMark, name)
	fmt.Fprintf(&out, "\nSection %s, taken %s on %s, %d cores, Linux %s, with %s", name, time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		processor(), runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), b.versions()[0][1])
	if b.divisor > 1 {
		fmt.Fprintf(&out, " and a divisor of %d for the rounds", b.divisor)
	}
	out.WriteString(".\n\n")
	for _, t := range tables {
		t.write(&out)
	}
	return part{name, out.Bytes()}
}

// merge puts the parts that were measured in the place of those of the same name in the old figures, in the order of the sections.
func merge(old []byte, fresh []part) []byte {
	var out bytes.Buffer
	for _, s := range sections {
		if i := slices.IndexFunc(fresh, func(p part) bool { return p.name == s.name }); i >= 0 {
			out.Write(fresh[i].text)
			continue
		}
		mark := fmt.Appendf(nil, sectionMark, s.name)
		_, rest, found := bytes.Cut(old, mark)
		if !found {
			continue
		}
		out.Write(mark)
		if next := bytes.Index(rest, []byte("<!-- section ")); next >= 0 {
			rest = rest[:next]
		}
		out.Write(rest)
	}
	return out.Bytes()
}

// machine says with what the newest figures were taken.
func (b *bench) machine() table {
	t := table{title: "Machine and programs", text: "Of the newest section below.", rule: words, head: []string{"", ""}}
	t.rows = [][]string{{"control groups", groupVersion()}}
	for _, p := range b.versions() {
		t.rows = append(t.rows, []string{p[0], p[1]})
	}
	if len(b.missing) > 0 {
		t.rows = append(t.rows, []string{"not there, so not measured", strings.Join(b.missing, ", ")})
	}
	return t
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo") // an unknown one is named so
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown " + runtime.GOARCH
}

func groupVersion() string {
	dirs, _ := groupDirs("")
	if len(dirs) == 1 {
		return "version 2"
	}
	return fmt.Sprintf("version 1, %d hierarchies", len(dirs))
}

// writeReport prints the figures, or puts them into a document, where sections that were not measured stay as they are.
func (b *bench) writeReport(doc string, parts []part) error {
	var head bytes.Buffer
	head.WriteByte('\n')
	b.machine().write(&head)
	if doc == "" {
		_, err := os.Stdout.Write(append(head.Bytes(), merge(nil, parts)...))
		return err
	}
	text, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	if text, err = between(text, head.Bytes(), parts); err != nil {
		return fmt.Errorf("%s: %w", doc, err)
	}
	return os.WriteFile(doc, text, 0o644)
}

// between puts the head and the parts between the markers.
func between(text, head []byte, parts []part) ([]byte, error) {
	above, rest, found := bytes.Cut(text, []byte(beginMark))
	old, below, ended := bytes.Cut(rest, []byte(endMark))
	if !found || !ended {
		return nil, errors.New("the marks that the figures stand between are missing")
	}
	return bytes.Join([][]byte{above, []byte(beginMark), head, merge(old, parts), []byte(endMark), below}, nil), nil
}
