package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/containr/containr/internal/config"
)

// TestDocsAreCurrent: docs/cli is what the commands say.
func TestDocsAreCurrent(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "docs", "cli")
	want := pages()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(data)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/cli is not current; go generate ./internal/cli writes it anew (-want +got):\n%s", diff)
	}
}

// TestManPagesAreCurrent: the pages in man are what the commands say.
func TestManPagesAreCurrent(t *testing.T) {
	for name, want := range manPages() {
		got, err := os.ReadFile(filepath.Join("..", "..", "..", "man", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("man/%s is not current; go generate ./internal/cli writes it anew (-want +got):\n%s", name, diff)
		}
	}
}

// TestConfigExample: what the documentation shows can be read.
func TestConfigExample(t *testing.T) {
	values, err := config.Parse("example", configExample)
	if err != nil || len(values) != 5 {
		t.Errorf("%v, error %v", values, err)
	}
}

// TestRoffEscapes: what people copy from the page is what the commands take.
func TestRoffEscapes(t *testing.T) {
	for in, want := range map[string]string{
		"--rm":    `\-\-rm`,
		".rc":     `\&.rc`,
		`a\b 'c'`: `a\eb \(aqc\(aq`,
	} {
		if got := roff(in); got != want {
			t.Errorf("roff(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWriteReplacesOldPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cli")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "containr-gone.md")
	if err := os.WriteFile(old, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the page of a command that is gone is left: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "containr-image-inspect.md")); err != nil {
		t.Error(err)
	}
}
