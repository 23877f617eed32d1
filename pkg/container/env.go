package container

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on what a file of variables or labels may hold, in bytes.
const (
	maxFileLine = 1 << 20
	maxEnvFile  = 16 << 20
)

// ParseEnv reads one value of --env: KEY=VALUE, or KEY alone, which takes the
// value from lookup (os.LookupEnv). A KEY that lookup does not know stays as it
// is, and unsets the variable in the container.
func ParseEnv(s string, lookup func(string) (string, bool)) (string, error) {
	key, _, hasValue := strings.Cut(s, "=")
	if key == "" {
		return "", fmt.Errorf("environment variable %q: no name before the equals sign", s)
	}
	if strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("environment variable %q: contains a zero byte", key)
	}
	if hasValue {
		return s, nil
	}
	if value, ok := lookup(key); ok {
		return key + "=" + value, nil
	}
	return key, nil
}

// ParseEnvFile reads a file of variables as docker does. A line is KEY=VALUE or
// KEY; leading blanks, empty lines and lines that start with # are ignored; the
// value is everything after the first equals sign, quotes and trailing blanks
// included. KEY alone takes the value from lookup and, unlike in ParseEnv, is
// dropped if lookup does not know it.
//
// name is the file's name, for errors, which read name:line: what is wrong.
func ParseEnvFile(name string, r io.Reader, lookup func(string) (string, bool)) ([]string, error) {
	var env []string
	err := eachLine(name, r, func(line string) error {
		key, _, hasValue := strings.Cut(line, "=")
		switch {
		case key == "":
			return fmt.Errorf("no variable name before the equals sign")
		case strings.ContainsFunc(key, unicode.IsSpace):
			return fmt.Errorf("variable name %q contains white space", key)
		case strings.ContainsRune(line, 0):
			return fmt.Errorf("variable %q contains a zero byte", key)
		case hasValue:
			env = append(env, line)
		default:
			if value, ok := lookup(key); ok {
				env = append(env, key+"="+value)
			}
		}
		return nil
	})
	return env, err
}

// eachLine calls do with every line of r that is neither empty nor a comment,
// without its leading blanks and its line end. A byte order mark at the start is
// skipped.
func eachLine(name string, r io.Reader, do func(line string) error) error {
	scanner := bufio.NewScanner(io.LimitReader(r, maxEnvFile))
	scanner.Buffer(nil, maxFileLine)
	number := 0
	for scanner.Scan() {
		number++
		line := scanner.Text()
		if number == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if !utf8.ValidString(line) {
			return fmt.Errorf("%s:%d: not valid UTF-8", name, number)
		}
		line = strings.TrimLeftFunc(line, unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := do(line); err != nil {
			return fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("%s:%d: %w", name, number+1, err)
	}
	return nil
}

// defaultPath is where a container's programs are searched for if the image does
// not say.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment puts the variables together: the container's own (PATH, HOSTNAME,
// TERM), the image's, the user's, each later one replacing an earlier one in its
// place; entries of the user without a value remove theirs. HOME is added last,
// if nobody has said anything about it.
func environment(hostname, home string, tty bool, image, user []string) []string {
	env := newEnvList("PATH="+defaultPath, "HOSTNAME="+hostname)
	if tty {
		env.set("TERM=xterm")
	}
	for _, e := range image {
		env.set(e)
	}
	homeSaid := false
	for _, e := range user {
		env.set(e)
		homeSaid = homeSaid || e == "HOME"
	}
	if _, ok := env.index["HOME"]; !ok && !homeSaid {
		env.set("HOME=" + home)
	}
	return env.list()
}

// envList is an ordered set of variables.
type envList struct {
	entries []string // "" for a removed one
	index   map[string]int
}

func newEnvList(entries ...string) *envList {
	l := &envList{index: map[string]int{}}
	for _, e := range entries {
		l.set(e)
	}
	return l
}

// set adds or replaces KEY=VALUE; KEY alone removes.
func (l *envList) set(entry string) {
	key, _, hasValue := strings.Cut(entry, "=")
	at, known := l.index[key]
	switch {
	case hasValue && known:
		l.entries[at] = entry
	case hasValue:
		l.index[key] = len(l.entries)
		l.entries = append(l.entries, entry)
	case known:
		l.entries[at] = ""
		delete(l.index, key)
	}
}

func (l *envList) list() []string {
	var out []string
	for _, e := range l.entries {
		if e != "" {
			out = append(out, e)
		}
	}
	return out
}
