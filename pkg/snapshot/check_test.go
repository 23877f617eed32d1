package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCheckFindsAndRemovesWhatIsNotWhole(t *testing.T) {
	s := open(t, Options{Rootless: os.Geteuid() != 0})
	f := func(name string) []byte { return archive(t, own(reg(name, name))) }
	good := unpack(t, s, f("a"), f("b"))
	lost := unpack(t, s, f("c"), f("d"))
	spare := unpack(t, s, f("e"))
	info, err := s.Stat(lost)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(c ChainID) bool { return c == good || c == lost }
	half := filepath.Join(s.dir, "sha256", strings.Repeat("0", 64))
	base, err := s.path(info.Parent)
	if err = errors.Join(err, os.Mkdir(half, 0o700), os.Mkdir(filepath.Join(s.dir, stagingDir, "dead"), 0o700), os.Remove(filepath.Join(base, metaFile))); err != nil {
		t.Fatal(err)
	}
	short := func(c ChainID) string { return "sha256/" + strings.TrimPrefix(string(c), "sha256:") }
	want := []string{
		short(lost) + ": what it builds on, " + string(info.Parent) + ", is missing or not whole",
		short(info.Parent) + ": it is half made: there is no description of it",
		short(spare) + ": no image and no container needs it",
		"sha256/" + strings.Repeat("0", 64) + ": it is half made: there is no description of it",
		"staging/dead: a process that was killed left it",
	}
	slices.Sort(want)
	for _, repair := range []bool{false, true} {
		found, err := s.Check(t.Context(), keep, repair)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range found {
			got = append(got, p.Path+": "+p.Text)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("repair %v: got\n%s\nwant\n%s", repair, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if found, err := s.Check(t.Context(), keep, false); err != nil || len(found) > 0 {
		t.Errorf("after the repair: %v, %v", found, err)
	}
	if !s.Has(good) || s.Has(lost) || s.Has(spare) {
		t.Error("repairing removed the wrong ones")
	}
}
