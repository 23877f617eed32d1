package host

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/containr/containr/internal/sys"
)

// FindResctrl is where the file system resctrl is mounted, empty if nowhere.
func FindResctrl() (string, error) {
	table, err := sys.ReadFile("/proc/self/mountinfo", 16*maxProcFile)
	if err != nil {
		return "", err
	}
	return findMount(string(table), "resctrl"), nil
}

// findMount finds the first mount of a type in the table of proc_pid_mountinfo(5).
func findMount(table, fstype string) string {
	for line := range strings.Lines(table) {
		before, after, _ := strings.Cut(line, " - ")
		if f := strings.Fields(before); len(f) > 4 && strings.HasPrefix(after, fstype+" ") {
			return f[4]
		}
	}
	return ""
}

// LookResctrl looks at the class of service with the directory dir.
func LookResctrl(root, dir string) (Resctrl, error) {
	r := Resctrl{Path: root}
	text, err := sys.ReadFile(dir+"/schemata", maxProcFile)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	r.Exists, r.Schemata = true, string(text)
	return r, err
}
