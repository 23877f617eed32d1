package linux

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever copies a line of a plan into a shell runs that line, whatever is in the names: of a path, a link, a hook.
func TestShownCommandsAreQuoted(t *testing.T) {
	touch, err := exec.LookPath("touch")
	if err != nil {
		t.Skipf("touch is not installed: %v", err)
	}
	for _, hostile := range []string{
		"$(touch broken)", "`touch broken`", "a;touch broken", "a\ntouch broken\n", "a&touch broken", "a|touch broken", `"$(touch broken)"`,
		"'; touch broken; '", "\n'; touch broken; '", `\$(touch broken)`, ">broken", "~;>broken",
	} {
		for _, c := range []interface{ Text() string }{
			MakeDir{Path: hostile}, RemoveDir{Path: hostile}, WriteFile{Path: "/nonesuch/" + hostile, Data: hostile}, ChangeOwner{Path: hostile},
			CopyFile{From: hostile, To: "/nonesuch/" + hostile}, Attach{Path: "/nonesuch/" + hostile}, WriteProc{File: "nonesuch", Data: hostile},
			RunHook{Path: hostile, Args: []string{"hook", hostile}, Stdout: "/nonesuch/" + hostile, Stderr: "/nonesuch/" + hostile},
			MoveLink{Link: hostile, To: hostile}, DeleteLink{Link: hostile}, UnpinNamespace{Path: hostile}, StopUnit{Unit: hostile},
			StartNetwork{Program: hostile, Args: []string{hostile, "--" + PIDWord + hostile}, Lock: hostile}, EndNetwork{Lock: hostile},
			StartUnit{Unit: hostile, Properties: []string{Property(hostile, "s", hostile)}},
		} {
			dir := t.TempDir()
			cmd := exec.Command("/bin/sh", "-c", c.Text())
			cmd.Dir = dir
			bin := t.TempDir()
			if err := os.Symlink(touch, filepath.Join(bin, "touch")); err != nil {
				t.Fatal(err)
			}
			cmd.Env = []string{"PATH=" + bin}
			out, err := cmd.CombinedOutput() // most fail: their command is not there
			if strings.Contains(string(out), "yntax") {
				t.Errorf("%s: %s (%v)", c.Text(), out, err)
			}
			left, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range left {
				t.Errorf("%s has made %s: %s", c.Text(), file.Name(), out)
			}
		}
	}
}
