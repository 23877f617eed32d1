package runtime

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// checkSpec refuses what no plan can be made of. What belongs to a chapter, its
// planner refuses.
func checkSpec(s *specs.Spec) error {
	switch {
	case s == nil || s.Linux == nil:
		return errors.New("configuration: it has no part linux")
	case s.Process == nil:
		return errors.New("configuration: it has no part process")
	case len(s.Process.Args) == 0:
		return errors.New("configuration: /process/args is empty: there is no program to run")
	case s.Process.Args[0] == "":
		return errors.New("configuration: /process/args/0 is the empty string: there is no program to run")
	case len(s.Process.Cwd) <= maxPath && !strings.HasPrefix(s.Process.Cwd, "/"):
		return fmt.Errorf("configuration: /process/cwd %q is not an absolute path", s.Process.Cwd)
	case s.Hostname != "" && !hasNamespace(s, specs.UTSNamespace):
		return errors.New("configuration: /hostname needs a UTS namespace of the container's own")
	}
	if other := otherSystem(s); other != "" {
		return fmt.Errorf("configuration: /%s is for another system than Linux", other)
	}
	if err := checkLengths(s.Process); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if size := s.Process.ConsoleSize; size != nil && max(size.Height, size.Width) > maxConsole {
		return fmt.Errorf("configuration: /process/consoleSize: %d lines of %d characters, the kernel has room for %d", size.Height, size.Width, maxConsole)
	}
	if err := checkHooks(s.Hooks); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}

// otherSystem names the part of a configuration that is for another system, if there
// is one.
func otherSystem(s *specs.Spec) string {
	switch {
	case s.Solaris != nil:
		return "solaris"
	case s.Windows != nil:
		return "windows"
	case s.VM != nil:
		return "vm"
	case s.ZOS != nil:
		return "zos"
	case s.FreeBSD != nil:
		return "freebsd"
	}
	return ""
}

const (
	// maxPath is PATH_MAX without the closing zero: the kernel takes no longer one.
	maxPath = 4095
	// maxConsole is the largest number in struct winsize, ioctl_tty(2).
	maxConsole = 1<<16 - 1
	// maxSearch is how many directories of PATH are searched, at most.
	maxSearch = 1024
)

// checkLengths refuses, before there are steps for each part of them, what the kernel
// would refuse anyway. An image says what they are.
func checkLengths(p *specs.Process) error {
	switch dirs := len(searchPath(p.Env)); {
	case len(p.Cwd) > maxPath:
		return fmt.Errorf("/process/cwd is longer than %d bytes", maxPath)
	case len(p.Args[0]) > maxPath:
		return fmt.Errorf("/process/args/0, the program, is longer than %d bytes", maxPath)
	case dirs > maxSearch && !strings.Contains(p.Args[0], "/"):
		return fmt.Errorf("/process/env: PATH has %d directories, more than %d", dirs, maxSearch)
	}
	return nil
}
