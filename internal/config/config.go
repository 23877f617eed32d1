// Package config reads the files in which people keep their defaults, and remembers where each came from.
//
// # Theory of operation
//
// A file is TOML: a table for each command, and in it the names of the command's flags; the table global has the flags of
// all commands.
//
//	[global]
//	root = "/data/containr"
//	[run]
//	memory = "512m"
//	dns = ["192.0.2.1", "192.0.2.2"]
//
// What a name means, and which values it may have, is the flag's business: this package knows nothing of commands. It brings
// the values, as the texts that would stand on the command line, with their origin: file and line, or the name of a variable.
//
// There are several sources. One that comes later wins, whole: a list in the user's file replaces that in the system's.
// In this order: the system's file, the user's file, the environment. Flags are above all of them.
//
// A file that is not there costs one system call, and nothing is parsed.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// Value is one setting.
type Value struct {
	// Section is the name of a command, or Global; Key that of one of its flags.
	Section, Key string
	// Texts are what would stand on the command line, one for each time that the flag would be given.
	Texts []string
	// Origin is file:line, or the name of a variable.
	Origin string
}

// Global is the section of the flags of all commands.
const Global = "global"

// Error is a file that cannot be used. Line is 0 if it is about no line.
type Error struct {
	File string
	Line int
	Text string
	Hint string // may be empty
	Err  error  // may be nil
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Text
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

func (e *Error) Unwrap() error { return e.Err }

// SystemFile is the file of all users.
const SystemFile = "/etc/containr/config.toml"

// UserFile is the file of the user whom the environment describes, "" if he has no home.
func UserFile() string {
	if dir := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "containr", "config.toml")
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "containr", "config.toml")
	}
	return ""
}

// maxFile is how large a file may be, in bytes.
const maxFile = 1 << 20

// ReadFile reads the values of a file, in the order of its lines. A file that is not there has none. One that everybody may
// write, or that belongs to another user but root, is refused, since it decides what runs with the user's rights.
func ReadFile(path string) ([]Value, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, &Error{File: path, Text: "not a regular file"}
	case !sys.Trusted(info):
		return nil, &Error{File: path, Text: "it belongs to another user", Hint: "chown it, or leave HOME and XDG_CONFIG_HOME to their user: sudo -H"}
	case info.Mode().Perm()&0o002 != 0:
		return nil, &Error{File: path, Text: "everybody may write it", Hint: "chmod o-w " + path}
	case info.Size() > maxFile:
		return nil, &Error{File: path, Text: fmt.Sprintf("larger than %d bytes", maxFile)}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, err
	}
	return Parse(path, string(text))
}

// Parse reads the values in the text of a file.
func Parse(path, text string) ([]Value, error) {
	var tables map[string]any
	if _, err := toml.Decode(text, &tables); err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return nil, &Error{File: path, Line: parse.Position.Line, Text: parse.Message, Err: err}
		}
		return nil, &Error{File: path, Text: err.Error(), Err: err}
	}
	places := findLines(text)
	var all []Value
	for section, table := range tables {
		keys, ok := table.(map[string]any)
		if !ok {
			return nil, &Error{File: path, Line: places.line("", section), Text: section + ": a setting needs a table", Hint: "put [" + Global + "] or the name of a command, such as [run], in a line above"}
		}
		for key, v := range keys {
			line := places.line(section, key)
			texts, err := textsOf(v)
			if err != nil {
				return nil, &Error{File: path, Line: line, Text: fmt.Sprintf("%s.%s: %v", section, key, err)}
			}
			all = append(all, Value{section, key, texts, path + ":" + strconv.Itoa(line)})
		}
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i], all[j]
		return cmp.Or(cmp.Compare(places.line(a.Section, a.Key), places.line(b.Section, b.Key)), cmp.Compare(a.Key, b.Key)) < 0
	})
	return all, nil
}

// textsOf writes a value as the command line would have it.
func textsOf(v any) ([]string, error) {
	list, isList := v.([]any)
	if !isList {
		text, err := textOf(v)
		return []string{text}, err
	}
	texts := []string{}
	for _, item := range list {
		text, err := textOf(item)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

func textOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	return "", errors.New("use a text in quotes, a number, true or false, or a list of them")
}

// Variables are the values that an environment has for the keys of a section. The variable of the key log-level of
// section global is CONTAINR_LOG_LEVEL, that of memory of section run is CONTAINR_RUN_MEMORY.
func Variables(section string, keys []string, lookup func(string) (string, bool)) []Value {
	var all []Value
	for _, key := range keys {
		name := VariableName(section, key)
		if text, ok := lookup(name); ok && text != "" {
			all = append(all, Value{section, key, []string{text}, name})
		}
	}
	return all
}

// VariableName is the name of the variable of a key.
func VariableName(section, key string) string {
	name := append(make([]byte, 0, 64), "CONTAINR_"...)
	if section != Global {
		name = append(append(name, section...), '_')
	}
	name = append(name, key...)
	for i, c := range name {
		switch {
		case c == '-' || c == ' ':
			name[i] = '_'
		case 'a' <= c && c <= 'z':
			name[i] = c - 'a' + 'A'
		}
	}
	return string(name)
}

// Merge returns the values of which each key has one: the last.
func Merge(sources ...[]Value) []Value {
	var all []Value
	for _, source := range sources {
		for _, v := range source {
			i := slices.IndexFunc(all, func(have Value) bool { return have.Section == v.Section && have.Key == v.Key })
			if i < 0 {
				all = append(all, v)
			} else {
				all[i] = v
			}
		}
	}
	return all
}
