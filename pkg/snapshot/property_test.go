package snapshot

import (
	"archive/tar"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/internal/safepath"
	"pgregory.net/rapid"
)

// drawName draws a name with few components of few kinds, so that entries
// meet.
func drawName(t *rapid.T, label string) string {
	parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3).Draw(t, label)
	return strings.Join(parts, "/")
}

func drawEntry(t *rapid.T) entry {
	name := drawName(t, "name")
	var e entry
	switch rapid.IntRange(0, 13).Draw(t, "kind") {
	case 0, 1, 2:
		e = dir(name, rapid.SampledFrom([]int64{0o755, 0o700, 0o2775, 0o1777, 0o555}).Draw(t, "mode"))
	case 3, 4, 5, 6:
		e = reg(name, rapid.SampledFrom([]string{"", "x", "some data", strings.Repeat("long ", 3000)}).Draw(t, "data"))
		e.Mode = rapid.SampledFrom([]int64{0o644, 0o4755, 0o2755, 0o600, 0}).Draw(t, "mode")
	case 7, 8:
		target := drawName(t, "target")
		if rapid.Bool().Draw(t, "detour") {
			target = drawName(t, "by way of") + "/../" + target
		}
		if rapid.Bool().Draw(t, "absolute") {
			target = "/" + target
		} else if rapid.Bool().Draw(t, "climbing") {
			target = "../" + target
		}
		return own(symlink(name, target))
	case 9, 10:
		return hardlink(name, drawName(t, "target"))
	case 11:
		return whiteout(beside(name, ".wh."+rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "gone")))
	case 12:
		return whiteout(beside(name, ".wh..wh..opq"))
	case 13:
		e = fifo(name)
	}
	e.ModTime = time.Unix(rapid.Int64Range(-1000, 1<<33).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds"))
	if os.Geteuid() == 0 {
		e.Uid = rapid.SampledFrom([]int{0, 1, 70000}).Draw(t, "uid")
		e.Gid = rapid.SampledFrom([]int{0, 1, 70000}).Draw(t, "gid")
	} else {
		e.Uid, e.Gid = os.Geteuid(), os.Getegid()
		e.Mode &^= 0o2000 // lost where the group of the directory is another
		e.Mode |= 0o400   // without which only root could copy it
	}
	if e.Typeflag != tar.TypeFifo && rapid.Bool().Draw(t, "attribute") {
		e = e.xattr("user.note", rapid.SampledFrom([]string{"n", "a\x00b"}).Draw(t, "note"))
	}
	return e
}

// beside replaces the last component of name.
func beside(name, base string) string {
	return name[:strings.LastIndex(name, "/")+1] + base
}

// drawLayers draws a few layers and what the model makes of them; err is its
// refusal of the last one.
func drawLayers(t *rapid.T) (all [][]entry, m *model, err error) {
	m = newModel()
	for range rapid.IntRange(1, 4).Draw(t, "layers") {
		var entries []entry
		if os.Geteuid() != 0 {
			root := dir(".", 0o755)
			root.Uid, root.Gid = os.Geteuid(), os.Getegid()
			entries = append(entries, root)
		}
		for range rapid.IntRange(0, 10).Draw(t, "entries") {
			entries = append(entries, drawEntry(t))
		}
		all = append(all, entries)
		if err := m.apply(entries); err != nil {
			return all, m, err
		}
	}
	return all, m, nil
}

// Any layers, extracted independently of each other, make the tree that
// applying them one after another makes; or both ways are refused.
func TestLayersEqualModel(t *testing.T) {
	refused, accepted := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		all, m, refusal := drawLayers(rt)
		if problem := compareModel(t, all, m, refusal); problem != "" {
			rt.Fatal(problem)
		}
		if refusal != nil {
			refused++
		} else {
			accepted++
		}
	})
	t.Logf("%d chains accepted, %d refused", accepted, refused)
	if accepted < refused/4 {
		t.Error("the layers drawn say little: most are refused")
	}
}

// compareModel unpacks layers and returns how that differs from what the model
// makes of them.
func compareModel(t *testing.T, all [][]entry, m *model, refusal error) string {
	t.Helper()
	var archives [][]byte
	for _, entries := range all {
		archives = append(archives, archive(t, entries...))
	}
	if os.Geteuid() != 0 {
		problem := compareStore(t, Options{Rootless: true, Driver: Native}, archives, m, refusal)
		if problem != "" {
			problem += "\n" + listing(all)
		}
		return problem
	}
	for _, d := range []Driver{Overlay, Erofs} {
		if problem := compareStore(t, Options{Driver: d}, archives, m, refusal); problem != "" {
			return fmt.Sprintf("%s: %s\n%s", d, problem, listing(all))
		}
	}
	return ""
}

func compareStore(t *testing.T, o Options, archives [][]byte, m *model, refusal error) string {
	t.Helper()
	s := open(t, o)
	defer safepath.RemoveAll(s.dir) // which copes with directories closed to their owner
	chain, err := s.Unpack(t.Context(), layers(archives...), nil)
	if (err != nil) != (refusal != nil) {
		return fmt.Sprintf("unpack: %v; model: %v", err, refusal)
	}
	if err != nil {
		return ""
	}
	for way, got := range allWays(t, s, chain) {
		if d := diff(m.fingerprint(), got); d != "" {
			return fmt.Sprintf("%s differs from the model:\n%s", way, d)
		}
	}
	return ""
}

// Layers that cannot be extracted independently of those below, as it turns
// out later, or whose entries depend on each other in odd ways.
func TestAssumptionsAreChecked(t *testing.T) {
	f := func(name string) entry { return own(reg(name, name)) }
	for name, all := range map[string][][]entry{
		"directory is a symlink below":             {{own(symlink("lib", "usr/lib")), ownDir("usr/lib")}, {f("lib/a"), f("usr/lib/b")}},
		"directory is a dangling symlink below":    {{own(symlink("lib", "/usr/lib"))}, {f("lib/a")}},
		"directory is a file below":                {{f("a")}, {f("a/b")}},
		"symlink to a file below":                  {{own(symlink("l", "a")), f("a")}, {f("l/b")}},
		"later described":                          {{own(symlink("lib", "x")), ownDir("x")}, {f("lib/a"), ownDir("lib")}},
		"later replaced":                           {{own(symlink("lib", "x")), ownDir("x")}, {f("lib/a"), f("lib"), ownDir("lib")}},
		"later removed":                            {{own(symlink("p/q", "/z"))}, {f("p/q/f"), whiteout(".wh.p")}},
		"opaque root after a symlink was used":     {{own(symlink("b", "c")), ownDir("c")}, {ownDir("b/c"), whiteout(".wh..wh..opq"), ownDir("b/a")}},
		"link after an opaque root":                {{f("a")}, {whiteout(".wh..wh..opq"), hardlink("c", "a"), ownDir("a")}},
		"link to what a symlink below leads to":    {{ownDir("a"), own(symlink("b", "/a"))}, {f("b/a"), hardlink("a", "b")}},
		"link and later its target replaced":       {{f("a")}, {hardlink("b", "a"), own(reg("a", "new"))}},
		"link and later its target removed":        {{f("a")}, {hardlink("b", "a"), whiteout(".wh.a")}},
		"link after its target was removed":        {{f("a")}, {whiteout(".wh.a"), hardlink("b", "a")}},
		"link in the place of its target's home":   {{f("a/x")}, {hardlink("a", "a/x")}},
		"link to itself below":                     {{f("a")}, {hardlink("a", "a")}},
		"links to links":                           {{f("a"), own(symlink("l", "a"))}, {hardlink("b", "a"), hardlink("c", "b"), hardlink("d", "l"), hardlink("b", "a"), hardlink("b2", "b")}},
		"link replaced by a file and linked again": {{f("a")}, {hardlink("b", "a"), f("b"), hardlink("c", "b")}},
		"link through a symlink of this layer":     {{f("y/a")}, {own(symlink("s", "y")), hardlink("b", "s/a")}},
		"link through replaced symlink":            {{f("y/a"), own(symlink("s", "y"))}, {ownDir("s"), hardlink("b", "s/a")}},
		"link to a fifo below":                     {{own(fifo("p"))}, {hardlink("q", "p")}},
		"link deep into the lower view":            {{own(dir("a/b/c", 0o700)), f("a/b/c/f")}, {hardlink("x", "a/b/c/f")}, {hardlink("a/y", "x")}},
		"whiteout of a used directory":             {{f("d/old"), f("d/e/old")}, {f("d/e/new"), whiteout(".wh.d")}},
		"used directory after its whiteout":        {{own(dir("d", 0o700)), f("d/old")}, {whiteout(".wh.d"), f("d/new")}},
		"file then directory again":                {{f("d/old")}, {f("d"), ownDir("d"), f("d/new")}},
		"whiteouts of nothing":                     {{ownDir("d")}, {ownDir("n"), whiteout("n/.wh.x"), whiteout("d/.wh.x"), whiteout("m/.wh.y")}},
		"whiteout inside an opaque directory":      {{f("d/a")}, {whiteout("d/.wh.a"), whiteout("d/.wh..wh..opq"), f("d/b")}},
		"whiteout two layers down":                 {{f("d/a")}, {whiteout("d/.wh.a")}, {f("d/b"), whiteout("d/.wh.a")}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newModel()
			var refusal error
			for i, entries := range all {
				if os.Geteuid() != 0 {
					all[i] = append([]entry{own(dir(".", 0o755))}, entries...)
				}
				if refusal == nil {
					refusal = m.apply(all[i])
				}
			}
			if problem := compareModel(t, all, m, refusal); problem != "" {
				t.Error(problem)
			}
		})
	}
}

// allWays looks at chain in every way that this user can.
func allWays(t *testing.T, s *Store, chain ChainID) map[string]map[string]string {
	native := s.With(Native)
	copied := t.TempDir() + "/copy"
	mounts, err := native.Prepare(t.Context(), chain, copied, "")
	if err != nil {
		t.Fatal(err)
	}
	defer safepath.RemoveAll(copied)
	ways := map[string]map[string]string{"copy": fingerprintOf(t, mounts[0].Source)}
	if os.Geteuid() == 0 {
		ways["overlay"] = mounted(t, s, chain)
		ways["view"] = viewed(t, s, chain)
	}
	return ways
}

func listing(all [][]entry) string {
	var b strings.Builder
	for i, entries := range all {
		fmt.Fprintf(&b, "layer %d:\n", i)
		for _, e := range entries {
			fmt.Fprintf(&b, "  %c %s %s %04o %d:%d %s %v\n", e.Typeflag, e.Name, e.Linkname, e.Mode, e.Uid, e.Gid, modelTime(e.ModTime), e.PAXRecords)
		}
	}
	return b.String()
}
