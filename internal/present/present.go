// Package present prints what a command found, in the form that its user asked for, and reads by what he filters it.
//
// # Vocabulary
//
// A row is a struct; each exported field is a cell, and what a template may name. A document is any value that JSON can
// hold. A format is the value of --format. A filter is a value of --filter, KEY=VALUE.
//
// # Theory of operation
//
// The forms are those of docker, so that scripts written for it work. Of rows:
//
//	""  table          a table of the columns that the command chose
//	table TEMPLATE     a table of the columns that the template names
//	json               each row as a line of JSON
//	TEMPLATE           each row by a template of Go's text/template, and a line feed
//
// and of documents the same without tables, with an indented JSON array for "". A template may use the functions of
// [functions]. \t and \n in it are what they say, as shells do not translate them.
//
// The heading of "table TEMPLATE" is the template again, executed with the titles of the columns in place of the cells,
// and with functions that change nothing. Thus the two always have the same columns.
//
// Cells of a table are made fit for a terminal, and JSON is spelled so that it is; what a template prints is the caller's to
// clean, see [Cleaner].
//
// Everything is printed to a buffer first. A template that fails at the third row prints nothing.
package present

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
)

// Error is a format or filter that was not understood: what is wrong, and what to do instead.
type Error struct {
	Text string
	Hint string // may be empty
	Err  error  // of the template library; may be nil
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Err }

// Column is one column of a table.
type Column struct {
	Field string // of the row
	Title string // as docker writes it, in capitals
}

// List is how rows are printed. The zero value is no table: Columns must be set.
type List struct {
	Format  string
	Columns []Column // of the table, in order
	// Titles are those of further columns, which only a template shows. A field that has no title here
	// or in Columns gets its name in capitals.
	Titles []Column
	// NoHeading leaves out the first line of a table.
	NoHeading bool
}

// Rows prints rows, which are structs, to w. The error is an *[Error] if the format was not understood.
func Rows[T any](w io.Writer, l List, rows []T) error { return printRows(w, l, reflect.ValueOf(rows)) }

// printRows is Rows of a slice. It and what it calls are there once, and not for every type of row.
func printRows(w io.Writer, l List, rows reflect.Value) error {
	var out bytes.Buffer
	template, isTable := strings.CutPrefix(l.Format, "table")
	template = strings.TrimSpace(template)
	var err error
	switch {
	case l.Format == "json":
		err = jsonLines(&out, rows)
	case l.Format == "", isTable && template == "":
		err = table(&out, l.template(), l, rows)
	case isTable:
		err = table(&out, template, l, rows)
	default:
		err = each(&out, l.Format, rows)
	}
	if err != nil {
		return err
	}
	_, err = out.WriteTo(w)
	return err
}

// template is that of the default table.
func (l List) template() string {
	var fields []string
	for _, c := range l.Columns {
		fields = append(fields, "{{."+c.Field+"}}")
	}
	return strings.Join(fields, "\t")
}

// columnGap is how many blanks are between two columns at least.
const columnGap = 3

func table(out *bytes.Buffer, text string, l List, rows reflect.Value) error {
	tw := tabwriter.NewWriter(out, 0, 8, columnGap, ' ', 0)
	if !l.NoHeading {
		if err := l.heading(tw, text, rows.Type().Elem()); err != nil {
			return err
		}
	}
	rows = cleanCells(rows)
	var lines []byte
	ok := text == l.template()
	if ok {
		lines, ok = plain(l.Columns, rows)
	}
	var err error
	if ok {
		_, err = tw.Write(lines)
	} else {
		err = each(Cleaner(tw), text, rows)
	}
	if err != nil {
		return err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	trimmed := trimLines(out.Bytes())
	out.Reset()
	out.Write(trimmed)
	return nil
}

// plain is what the template of columns makes of rows, in a fraction of the time. It is not ok if they are not all fields
// of the row itself that are texts.
func plain(columns []Column, rows reflect.Value) (text []byte, ok bool) {
	row := rows.Type().Elem()
	if row.Kind() != reflect.Struct {
		return nil, false
	}
	var places []int
	for _, c := range columns {
		f, ok := row.FieldByName(c.Field)
		if !ok || len(f.Index) > 1 || f.Type.Kind() != reflect.String || f.Type.Implements(reflect.TypeFor[fmt.Stringer]()) || f.Type.Implements(reflect.TypeFor[error]()) {
			return nil, false
		}
		places = append(places, f.Index[0])
	}
	for i := range rows.Len() {
		v := rows.Index(i)
		for n, place := range places {
			if n > 0 {
				text = append(text, '\t')
			}
			text = append(text, Clean(v.Field(place).String())...)
		}
		text = append(text, '\n')
	}
	return text, true
}

// trimLines takes away the blanks that tabwriter leaves at the end of lines whose last cell is empty.
func trimLines(text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		out = append(out, bytes.TrimRight(line, " \n")...)
		out = append(out, '\n')
	}
	return out
}

// heading prints the titles in the places of the cells.
func (l List) heading(w io.Writer, text string, row reflect.Type) error {
	t, err := parse(text, headingFunctions)
	if err != nil {
		return err
	}
	titles := map[string]string{}
	for _, name := range fields(row) {
		titles[name] = strings.ToUpper(name)
	}
	for _, c := range slices.Concat(l.Columns, l.Titles) {
		titles[c.Field] = c.Title
	}
	if err := t.Execute(w, titles); err != nil {
		return executeError(err, row)
	}
	_, err = fmt.Fprintln(w)
	return err
}

// Documents prints documents to w: as an indented JSON array if format is empty, as one line of JSON each if it is json,
// else by a template, in which both the names of fields and those of their JSON can be used.
func Documents[T any](w io.Writer, format string, documents []T) error {
	if documents == nil {
		documents = []T{}
	}
	return printDocuments(w, format, reflect.ValueOf(documents))
}

func printDocuments(w io.Writer, format string, documents reflect.Value) error {
	var out bytes.Buffer
	var err error
	switch format {
	case "":
		err = EncodeJSON(&out, documents.Interface(), "    ")
	case "json":
		err = jsonLines(&out, documents)
	default:
		err = eachDocument(&out, format, documents)
	}
	if err != nil {
		return err
	}
	_, err = out.WriteTo(w)
	return err
}

// EncodeJSON writes a value as JSON, indented unless indent is empty, that no terminal obeys.
func EncodeJSON(w io.Writer, v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(EscapeJSON(b.Bytes()))
	return err
}

func jsonLines(out *bytes.Buffer, values reflect.Value) error {
	for i := range values.Len() {
		if err := EncodeJSON(out, values.Index(i).Interface(), ""); err != nil {
			return err
		}
	}
	return nil
}

// each prints values by a template, a line each. What a map has not is empty: labels and the like differ from row
// to row.
func each(w io.Writer, text string, values reflect.Value) error {
	t, err := parse(text, functions)
	if err != nil {
		return err
	}
	t.Option("missingkey=zero")
	for i := range values.Len() {
		v := values.Index(i).Interface()
		if err := t.Execute(w, v); err != nil {
			return executeError(err, reflect.TypeOf(v))
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

// eachDocument is each for documents: a template that does not fit the struct is tried on its JSON.
func eachDocument(out *bytes.Buffer, text string, documents reflect.Value) error {
	t, err := parse(text, functions)
	if err != nil {
		return err
	}
	for i := range documents.Len() {
		d := documents.Index(i).Interface()
		before := out.Len()
		err := t.Execute(out, d)
		if err != nil {
			out.Truncate(before)
			if executeJSON(out, t, d) != nil {
				return executeError(err, reflect.TypeOf(d))
			}
		}
		out.WriteByte('\n')
	}
	return nil
}

func executeJSON(out *bytes.Buffer, t *template.Template, document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // sizes are not to become 1.2e+07
	var generic any
	if err := d.Decode(&generic); err != nil {
		return err
	}
	before := out.Len()
	if err := t.Execute(out, generic); err != nil {
		out.Truncate(before)
		return err
	}
	return nil
}

func parse(text string, functions template.FuncMap) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("--format").Option("missingkey=error").Funcs(functions).Parse(text)
	if err != nil {
		reason := strings.TrimPrefix(err.Error(), "template: --format:")
		return nil, &Error{Text: "--format: template: " + reason, Hint: "it is a template of Go's text/template, such as '{{.ID}}', or json", Err: err}
	}
	return t, nil
}

// executeError leaves of the library's message what is about the user's template.
func executeError(err error, row reflect.Type) error {
	var exec template.ExecError
	if !errors.As(err, &exec) {
		return err // of the writer
	}
	_, reason, _ := strings.Cut(err.Error(), ": executing ")
	_, reason, _ = strings.Cut(reason, " at ")
	reason, _, _ = strings.Cut(reason, " in type ")
	e := &Error{Text: "--format: " + reason, Err: err}
	if names := fields(row); len(names) > 0 {
		e.Hint = "there are ." + strings.Join(names, " .")
	}
	return e
}

// fields lists what a template may name.
func fields(row reflect.Type) []string {
	for row != nil && row.Kind() == reflect.Pointer {
		row = row.Elem()
	}
	if row == nil || row.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for _, f := range reflect.VisibleFields(row) {
		if f.IsExported() && !f.Anonymous {
			names = append(names, f.Name)
		}
	}
	return names
}
