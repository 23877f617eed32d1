package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The oldest CRIU that is known to do what is asked of it.
const criuMajor, criuMinor = 3, 16

// LookCRIU finds the program criu: at path, or if that is empty in the directories of
// $PATH. The error, an ErrNoCRIU, says what is wrong with it.
func LookCRIU(path string) (string, error) {
	name := path
	if name == "" {
		name = "criu"
	}
	found, err := exec.LookPath(name)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("%w: %q is in none of the directories of $PATH", ErrNoCRIU, name)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: there is no file %s", ErrNoCRIU, name)
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrNoCRIU, err)
	}
	out, err := exec.Command(found, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s --version: %w", ErrNoCRIU, found, err)
	}
	major, minor, ok := criuVersion(string(out))
	if !ok {
		return "", fmt.Errorf("%w: %s --version does not say which version it is", ErrNoCRIU, found)
	}
	if major < criuMajor || major == criuMajor && minor < criuMinor {
		return "", fmt.Errorf("%w: %s is version %d.%d, and %d.%d is the oldest that can do what it takes", ErrNoCRIU, found, major, minor, criuMajor, criuMinor)
	}
	return filepath.Abs(found) // it is executed by a process with another working directory
}

// criuVersion reads "Version: 3.17.1", the first line of criu --version.
func criuVersion(text string) (major, minor int, ok bool) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, "Version: ")
		if !found {
			continue
		}
		first, rest, _ := strings.Cut(strings.TrimSpace(rest), ".")
		second, _, _ := strings.Cut(rest, ".")
		major, err := strconv.Atoi(first)
		if err != nil {
			return 0, 0, false
		}
		minor, err = strconv.Atoi(second)
		return major, minor, err == nil
	}
	return 0, 0, false
}
