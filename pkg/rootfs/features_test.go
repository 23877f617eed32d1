package rootfs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"
)

// What is listed is what is understood, no less and no more.
func TestMountOptionsAreThoseThatAreKnown(t *testing.T) {
	all := MountOptions()
	for _, name := range all {
		o, err := parseOptions([]string{name})
		if err != nil || len(o.data) > 0 {
			t.Errorf("%s is listed, but is handed to the file system (%v)", name, err)
		}
	}
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("options are listed twice: %v", all)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "options.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncDecl); ok && f.Name.Name != "kind" {
			return false
		}
		if c, ok := n.(*ast.CaseClause); ok {
			for _, e := range c.List {
				if l, ok := e.(*ast.BasicLit); ok {
					if name, err := strconv.Unquote(l.Value); err != nil || !slices.Contains(all, name) {
						t.Errorf("%s is known, but not listed", l.Value)
					}
				}
			}
		}
		return true
	})
}
