package present

import (
	"bytes"
	"reflect"
	"testing"
)

// TestPlainIsTheTemplate: a table's rows are the same with and without its template, whatever is in them.
func TestPlainIsTheTemplate(t *testing.T) {
	type row struct{ A, B, C string }
	rows := cleanCells(reflect.ValueOf([]row{{"1", "two\twords", "\x1b[31mred"}, {"", "a\nb", "ü\u202e\xff"}, {"{{.A}}", "", ""}}))
	l := List{Columns: []Column{{Field: "C", Title: "C"}, {Field: "A", Title: "A"}, {Field: "B", Title: "B"}}}
	got, ok := plain(l.Columns, rows)
	var want bytes.Buffer
	if err := each(Cleaner(&want), l.template(), rows); err != nil || !ok {
		t.Fatal(err, ok)
	}
	if string(got) != want.String() {
		t.Errorf("got  %q\nwant %q", got, want.String())
	}
	type number struct{ N int }
	if _, ok := plain([]Column{{Field: "N"}}, reflect.ValueOf([]number{{1}})); ok {
		t.Error("a number is taken for a text")
	}
}
