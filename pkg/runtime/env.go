package runtime

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/internal/sys"
)

// maxPasswd bounds how much of a container's /etc/passwd is read, in bytes.
const maxPasswd = 1 << 20

// environment returns the variables that a program gets: those of env, each name once, with what the last entry of the name says; and HOME, if it
// is absent or empty and ownHome is not set, as the container's /etc/passwd has it for the user. runc does the same, and its callers count on it. root is the host path
// of the container's root. What is no variable is refused.
func environment(env []string, root string, ownHome bool, uid uint32) ([]string, error) {
	at := make(map[string]int, len(env)+1)
	list := make([]string, 0, len(env)+1)
	for i, e := range env {
		name, _, is := strings.Cut(e, "=")
		if !is || name == "" || strings.IndexByte(e, 0) >= 0 {
			return nil, fmt.Errorf("/process/env/%d: %q is no NAME=VALUE", i, e)
		}
		if first, known := at[name]; known {
			list[first] = e
			continue
		}
		at[name] = len(list)
		list = append(list, e)
	}
	switch i, known := at["HOME"]; {
	case ownHome:
	case !known:
		list = append(list, "HOME="+homeOf(root, uid))
	case list[i] == "HOME=":
		list[i] += homeOf(root, uid)
	}
	return list, nil
}

// homeOf is the home directory of a user in a root file system; "/" for one who has none there.
func homeOf(root string, uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	table := passwd(root)
	for table != "" {
		var line string
		line, table, _ = strings.Cut(table, "\n")
		// name:password:uid:gid:comment:directory:shell, passwd(5)
		if f := strings.Split(line, ":"); len(f) == 7 && f[2] == number && f[5] != "" && strings.IndexByte(f[5], 0) < 0 {
			return f[5]
		}
	}
	return "/"
}

// passwd reads /etc/passwd in a root file system, if that is a regular file, and not a large one.
func passwd(root string) string {
	r, err := safepath.OpenRoot(root)
	if err != nil {
		return ""
	}
	defer r.Close()
	f, err := r.OpenFile("etc/passwd", unix.O_PATH, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	text, _ := sys.ReadFile("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), maxPasswd) // who has none there has "/"
	return string(text)
}
