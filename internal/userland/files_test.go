package userland

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// must runs a command that has to succeed without complaint, and returns what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, complaint, status := run(t, "", args...)
	if status != 0 || complaint != "" {
		t.Fatalf("%q: status %d, complained %q", args, status, complaint)
	}
	return out
}

// refuse runs a command that has to fail with a complaint that contains why.
func refuse(t *testing.T, why string, args ...string) {
	t.Helper()
	_, complaint, status := run(t, "", args...)
	if status == 0 || !strings.Contains(complaint, why) {
		t.Errorf("%q: status %d, complained %q; want a complaint about %q", args, status, complaint, why)
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func mode(t *testing.T, name string) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatal(err)
	}
	return st.Mode & 0o7777
}

func TestCpKeepsWhatItIsAskedToKeep(t *testing.T) {
	tree(t)
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t, "chmod", "4751", "a")
	if err := os.Chtimes("a", old, old); err != nil {
		t.Fatal(err)
	}
	must(t, "cp", "-p", "a", "kept")
	if info, _ := os.Stat("kept"); mode(t, "kept") != 0o4751 || !info.ModTime().Equal(old) {
		t.Errorf("cp -p: mode %o, time %s", mode(t, "kept"), info.ModTime())
	}
	must(t, "cp", "a", "d")
	if content(t, "d/a") != content(t, "a") {
		t.Error("cp to a directory: other content")
	}
	refuse(t, "is a directory", "cp", "d", "x")
	must(t, "cp", "-a", "d", "copy")
	must(t, "cp", "-a", "link", "copy/link")
	if target, _ := os.Readlink("copy/link"); target != "a" {
		t.Errorf("cp -a of a link leads to %q", target)
	}
	if !exists("copy/e/deep") || !exists("copy/.hidden") {
		t.Error("cp -a left something out")
	}
	must(t, "cp", "link", "followed")
	if isLink("followed") {
		t.Error("cp copied the link, not the file")
	}
}

func TestCpRefusesToDestroy(t *testing.T) {
	tree(t)
	refuse(t, "same file", "cp", "a", "link")
	refuse(t, "into itself", "cp", "-r", "d", "d/e")
	refuse(t, "not a directory", "cp", "a", "b", "csv")
	must(t, "cp", "-n", "a", "b")
	if content(t, "b") == content(t, "a") {
		t.Error("cp -n overwrote a file")
	}
	if _, _, status := run(t, "n\n", "cp", "-i", "a", "b"); status != 0 || content(t, "b") == content(t, "a") {
		t.Error("cp -i overwrote a file after a no")
	}
	run(t, "y\n", "cp", "-i", "a", "b")
	if content(t, "b") != content(t, "a") {
		t.Error("cp -i did not overwrite a file after a yes")
	}
}

func TestMvMovesAlsoBetweenFileSystems(t *testing.T) {
	tree(t)
	must(t, "mv", "a", "renamed")
	must(t, "mv", "renamed", "b", "d")
	if exists("a") || !exists("d/renamed") || !exists("d/b") {
		t.Error("mv to a directory did not move both")
	}
	refuse(t, "missing", "mv", "missing", "d")
	if err := moveAcross("d", "elsewhere"); err != nil || exists("d") || content(t, "elsewhere/e/deep") != "deep\n" {
		t.Errorf("a move by copying: %v", err)
	}
}

func TestRmRemovesOnlyWhatItIsTold(t *testing.T) {
	tree(t)
	refuse(t, "is a directory", "rm", "d")
	refuse(t, "is a directory", "rm", "-f", "d")
	refuse(t, "refusing", "rm", "-rf", ".")
	refuse(t, "refusing", "rm", "-rf", "/")
	refuse(t, "refusing", "rm", "-rf", "d/..")
	must(t, "rm", "-f", "missing")
	must(t, "rm", "link")
	if !exists("a") {
		t.Fatal("rm of a link removed its target")
	}
	must(t, "rm", "-r", "d", "a")
	if exists("d") || exists("a") {
		t.Error("rm -r left something")
	}
	must(t, "mkdir", "-p", "x/y/z")
	must(t, "mkdir", "-p", "x/y/z")
	refuse(t, "exists", "mkdir", "x")
	refuse(t, "not empty", "rmdir", "x")
	must(t, "rmdir", "-p", "x/y/z")
	must(t, "mkdir", "-m", "700", "private")
	if mode(t, "private") != 0o700 {
		t.Errorf("mkdir -m 700: %o", mode(t, "private"))
	}
}

func TestModesFollowPOSIX(t *testing.T) {
	for _, c := range []struct {
		old  uint32
		mode string
		dir  bool
		want uint32
	}{
		{0o644, "755", false, 0o755}, {0o644, "1777", true, 0o1777}, {0o644, "u+x", false, 0o744}, {0o777, "go-w", false, 0o755},
		{0o644, "a=r", false, 0o444}, {0o644, "+x", false, 0o755}, {0o600, "g=u", false, 0o660}, {0o644, "a+X", false, 0o644},
		{0o644, "a+X", true, 0o755}, {0o744, "a+X", false, 0o755}, {0o755, "u+s", false, 0o4755}, {0o755, "+t", true, 0o1755},
		{0o777, "o=,g-w", false, 0o750}, {0o000, "u=rwx,go=rx", false, 0o755}, {0o644, "u+w+x", false, 0o744}, {0o4755, "u-s", false, 0o755},
	} {
		if got, err := applyMode(c.mode, c.old, c.dir, 0o022); err != nil || got != c.want {
			t.Errorf("%04o %s: got %04o, %v; want %04o", c.old, c.mode, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "8", "77777", "u", "u+q", "+x,", "x+u", "u*x"} {
		if got, err := applyMode(bad, 0o644, false, 0); err == nil {
			t.Errorf("%q was taken for %04o", bad, got)
		}
	}
	tree(t)
	must(t, "chmod", "-R", "u+w,go-rwx", "d")
	if mode(t, "d/e/deep") != 0o600 || mode(t, "d/e") != 0o700 {
		t.Error("chmod -R did not reach everything")
	}
	must(t, "chmod", "-x", "d/f")
	refuse(t, "invalid mode", "chmod", "u+q", "a")
}

func TestChownReadsNamesAndNumbers(t *testing.T) {
	for _, c := range []struct {
		owner    string
		uid, gid int
	}{{"root", 0, -1}, {"0:0", 0, 0}, {"root:", 0, 0}, {":0", -1, 0}, {"12345:54321", 12345, 54321}} {
		if uid, gid, err := parseOwner(c.owner); err != nil || uid != c.uid || gid != c.gid {
			t.Errorf("%s: %d:%d, %v", c.owner, uid, gid, err)
		}
	}
	refuse(t, "no such user", "chown", "nobody-of-that-name", "/dev/null")
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	tree(t)
	must(t, "chown", "-R", "12:34", "d")
	must(t, "chown", "-h", "56", "link")
	must(t, "chgrp", "78", "a")
	if got := must(t, "stat", "-c", "%u:%g", "d/e/deep", "link", "a"); got != "12:34\n56:0\n0:78\n" {
		t.Errorf("owners are %q", got)
	}
}

func TestLinksAndTimes(t *testing.T) {
	tree(t)
	must(t, "ln", "a", "hard")
	must(t, "ln", "-s", "b", "soft")
	must(t, "ln", "-sf", "a", "soft")
	must(t, "ln", "-s", "a", "b", "d")
	refuse(t, "exists", "ln", "-s", "a", "soft")
	if got := must(t, "stat", "-c", "%h", "hard"); got != "2\n" {
		t.Errorf("a hard link has %q links", got)
	}
	if got := must(t, "readlink", "soft", "d/b"); got != "a\nb\n" {
		t.Errorf("links lead to %q", got)
	}
	must(t, "touch", "-d", "2020-01-02 03:04:05", "a", "new")
	must(t, "touch", "-r", "a", "b")
	must(t, "touch", "-c", "never")
	if exists("never") || must(t, "stat", "-c", "%Y", "a") != must(t, "stat", "-c", "%Y", "b") || !exists("new") {
		t.Error("touch did not do what its flags say")
	}
	dir := strings.TrimSpace(must(t, "mktemp", "-d", "-p", ".", "x.XXXXXX"))
	if mode(t, dir) != 0o700 {
		t.Errorf("mktemp -d made %s with mode %o", dir, mode(t, dir))
	}
	must(t, "truncate", "-s", "1K", "a")
	must(t, "truncate", "-s", "+1", "a")
	if got := must(t, "stat", "-c", "%s", "a"); got != "1025\n" {
		t.Errorf("truncate made %s", got)
	}
	must(t, "mkfifo", "-m", "600", "pipe")
	if got := must(t, "ls", "-l", "pipe"); !strings.HasPrefix(got, "prw------- 1 ") {
		t.Errorf("a pipe is listed as %q", got)
	}
}

func TestFindActs(t *testing.T) {
	tree(t)
	if got := must(t, "find", "d", "-name", "e", "-prune", "-o", "-type", "f", "-print"); strings.Contains(got, "deep") {
		t.Errorf("-prune did not keep find out: %q", got)
	}
	must(t, "find", "d", "-delete")
	if exists("d") {
		t.Error("find -delete left the directory")
	}
	for _, c := range [][]string{{"-nope"}, {"-name"}, {"(", "-true"}, {"-exec", "ls"}, {"-size", "3x"}} {
		if _, complaint, status := run(t, "", append([]string{"find", "."}, c...)...); status != 2 {
			t.Errorf("find %q: status %d, complained %q", c, status, complaint)
		}
	}
}

func TestTarKeepsATree(t *testing.T) {
	tree(t)
	must(t, "chmod", "4750", "d/f")
	must(t, "ln", "d/f", "d/same")
	must(t, "ln", "-s", "../a", "d/up")
	must(t, "touch", "-d", "@1000000000", "d/f", "d")
	for _, flags := range []string{"-cf", "-czf"} {
		run(t, "", "tar", flags, "t.tar", "d", "a") // the complaint about its own name is none
		names := strings.Fields(must(t, "tar", "-tf", "t.tar"))
		if !slices.Contains(names, "d/e/deep") || !slices.Contains(names, "d/") {
			t.Fatalf("tar %s: members %q", flags, names)
		}
		os.RemoveAll("out")
		must(t, "mkdir", "out")
		must(t, "tar", "xf", "t.tar", "-C", "out")
		want := must(t, "stat", "-c", "%a %s %Y %F", "d/f", "d", "d/e/deep")
		if got := must(t, "stat", "-c", "%a %s %Y %F", "out/d/f", "out/d", "out/d/e/deep"); got != want {
			t.Errorf("tar %s: got\n%swant\n%s", flags, got, want)
		}
		if must(t, "stat", "-c", "%i", "out/d/f") != must(t, "stat", "-c", "%i", "out/d/same") {
			t.Error("a hard link became a copy")
		}
	}
	must(t, "mkdir", "part")
	must(t, "tar", "-xf", "t.tar", "-C", "part", "--strip-components", "1", "--exclude", "same", "d")
	if !exists("part/e/deep") || exists("part/same") || exists("part/a") {
		t.Error("--strip-components, --exclude or a named member did not do what it says")
	}
}

func TestGzipReplacesFilesOnlyWhenDone(t *testing.T) {
	tree(t)
	want := content(t, "a")
	must(t, "gzip", "-9", "a")
	if exists("a") {
		t.Error("gzip kept the file")
	}
	if got := must(t, "zcat", "a.gz"); got != want {
		t.Error("zcat gave other content")
	}
	must(t, "gunzip", "-k", "a.gz")
	if content(t, "a") != want || !exists("a.gz") {
		t.Error("gunzip -k did not restore the file beside the archive")
	}
	refuse(t, "exists", "gunzip", "a.gz")
	refuse(t, "unknown suffix", "gunzip", "b")
	os.WriteFile("broken.gz", []byte("no archive"), 0o644)
	refuse(t, "broken.gz", "gunzip", "broken.gz")
	if exists("broken") {
		t.Error("a failed gunzip left its output")
	}
}

func TestDdCountsBlocks(t *testing.T) {
	tree(t)
	_, report, status := run(t, "", "dd", "if=a", "of=out", "bs=4", "skip=1", "count=2")
	if status != 0 || content(t, "out") != "two\nthre" || !strings.HasPrefix(report, "2+0 records in\n2+0 records out\n") {
		t.Errorf("status %d, wrote %q, said %q", status, content(t, "out"), report)
	}
	run(t, "XX", "dd", "of=out", "bs=1", "seek=2", "conv=notrunc", "status=none")
	if content(t, "out") != "twXXthre" {
		t.Errorf("conv=notrunc wrote %q", content(t, "out"))
	}
	refuse(t, "unknown operand", "dd", "nope=1")
	refuse(t, "bs=", "dd", "bs=0")
}

func TestSedEditsInPlace(t *testing.T) {
	tree(t)
	must(t, "chmod", "600", "a")
	must(t, "sed", "-i", "s/one/ONE/", "a", "b")
	if !strings.HasPrefix(content(t, "a"), "ONE\n") || mode(t, "a") != 0o600 {
		t.Error("sed -i did not edit in place with the mode kept")
	}
	for _, script := range []string{"s/a", "q{", "k", "b nowhere", "1,p", "s/a/b/z", "y/ab/c/", "s/\\(/x/"} {
		if _, complaint, status := run(t, "x\n", "sed", script); status == 0 {
			t.Errorf("sed %q was accepted: %q", script, complaint)
		}
	}
}

func TestCommandsThatStartCommands(t *testing.T) {
	tree(t)
	if out, _, status := run(t, "", "timeout", "0.05", "sleep", "10"); status != 124 {
		t.Errorf("timeout: status %d, %q", status, out)
	}
	if out := must(t, "timeout", "10", "echo", "in time"); out != "in time\n" {
		t.Errorf("timeout printed %q", out)
	}
	if _, report, status := run(t, "", "time", "-p", "sh", "-c", "exit 3"); status != 3 || !strings.Contains(report, "real ") {
		t.Errorf("time: status %d, %q", status, report)
	}
	if _, complaint, status := run(t, "a", "xargs", "no-such-command"); status != 127 {
		t.Errorf("xargs of nothing: status %d, %q", status, complaint)
	}
	if _, _, status := run(t, "a\n", "xargs", "sh", "-c", "exit 1"); status != 123 {
		t.Errorf("xargs of a failure: status %d", status)
	}
	t.Setenv("CONTAINR_TEST", "value")
	if out := must(t, "printenv", "CONTAINR_TEST"); out != "value\n" {
		t.Errorf("printenv printed %q", out)
	}
	if out := must(t, "env", "-i", "A=1", "B=2"); out != "A=1\nB=2\n" {
		t.Errorf("env printed %q", out)
	}
}

func TestPathsThroughLinksAreReal(t *testing.T) {
	tree(t)
	here, err := filepath.EvalSymlinks(".")
	if err != nil {
		t.Fatal(err)
	}
	abs, _ := filepath.Abs(here)
	must(t, "ln", "-s", "d", "dir")
	for arg, want := range map[string]string{"dir/f": abs + "/d/f", "dir/new": abs + "/d/new", "./a": abs + "/a"} {
		if got := must(t, "readlink", "-f", arg); got != want+"\n" {
			t.Errorf("readlink -f %s: %q, want %q", arg, got, want)
		}
	}
	refuse(t, "missing", "realpath", "-e", "missing")
}

func TestCopiesAndMovesWhereItIsTold(t *testing.T) {
	tree(t)
	for _, c := range []struct {
		args  []string
		check func() bool
	}{
		{[]string{"cp", "-t", "d", "a", "b"}, func() bool { return content(t, "d/a") == content(t, "a") && content(t, "d/b") == content(t, "b") }},
		{[]string{"mv", "-t", "d/e", "d/a", "d/b"}, func() bool { return content(t, "d/e/a") == content(t, "a") && !exists("d/a") }},
		{[]string{"cp", "-l", "a", "hard"}, func() bool { return sameFile("a", "hard") }},
		{[]string{"cp", "-s", "a", "soft"}, func() bool { return isLink("soft") && sameFile("a", "soft") }},
		{[]string{"touch", "-t", "200102030405", "b"}, func() bool { return strings.HasPrefix(mtimeOf("b"), "2001-02-03 04:05:00") }},
		{[]string{"cp", "-u", "b", "a"}, func() bool { return content(t, "a") != content(t, "b") }},
		{[]string{"mv", "-u", "b", "a"}, func() bool { return exists("b") }},
		{[]string{"cp", "-u", "a", "b"}, func() bool { return content(t, "a") == content(t, "b") }},
		{[]string{"truncate", "-c", "-s", "1", "none"}, func() bool { return !exists("none") }},
		{[]string{"link", "a", "linked"}, func() bool { return sameFile("a", "linked") }},
		{[]string{"unlink", "linked"}, func() bool { return !exists("linked") && exists("a") }},
		{[]string{"uniq", "csv", "out"}, func() bool { return content(t, "out") == content(t, "csv") }},
		{[]string{"sed", "-n", "/^t/w t-words", "a"}, func() bool { return content(t, "t-words") == "two\nthree\nten\ntwelve\n" }},
		{[]string{"sed", "-i.old", "s/name/NAME/", "csv"}, func() bool {
			return strings.HasPrefix(content(t, "csv"), "NAME") && strings.HasPrefix(content(t, "csv.old"), "name")
		}},
	} {
		if _, complaint, status := run(t, "", c.args...); status != 0 || !c.check() {
			t.Errorf("%s: status %d, complained %q", strings.Join(c.args, " "), status, complaint)
		}
	}
}

func TestTarLeavesOutWhatItIsTold(t *testing.T) {
	tree(t)
	out, _, status := run(t, "", "tar", "-cvf", "t.tar", "--exclude", "e", "d")
	if want := "d/\nd/.hidden\nd/f\nd/with name\n"; out != want || status != 0 {
		t.Errorf("made with status %d and said %q, not %q", status, out, want)
	}
	if _, complaint, status := run(t, "", "tar", "-xkf", "t.tar"); status != 1 || !strings.Contains(complaint, "d/f: file already exists") {
		t.Errorf("-k: status %d, complained %q", status, complaint)
	}
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func mtimeOf(name string) string {
	info, err := os.Stat(name)
	if err != nil {
		return err.Error()
	}
	return info.ModTime().Format("2006-01-02 15:04:05")
}
