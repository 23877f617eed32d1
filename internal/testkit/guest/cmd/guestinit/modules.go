package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

// load loads the modules that the configuration names and returns what did not work.
func load(c wire.Boot) []string {
	var warnings []string
	for _, name := range c.Load {
		for _, m := range c.Modules.Resolve(name) {
			if err := insmod(m); err != nil {
				warnings = append(warnings, err.Error())
			}
		}
	}
	return warnings
}

// insmod loads one module; that it is there already is fine.
func insmod(name string) error {
	f, err := os.Open(filepath.Join(wire.ModuleDir, name+".ko"))
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	return nil
}

// modprobe is called by the kernel as "modprobe -q -- NAME"; a name that no module has is the usual case, not an
// error worth a message.
func modprobe(args []string) int {
	c, err := readConfig()
	if err != nil {
		return 1
	}
	found := false
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			continue
		}
		// The kernel's names for modules and aliases differ in the dash only; module names are kept with underscores.
		order := c.Modules.Resolve(arg)
		if order == nil {
			order = c.Modules.Resolve(strings.ReplaceAll(arg, "-", "_"))
		}
		for _, m := range order {
			found = true
			if err := insmod(m); err != nil {
				fmt.Fprintln(os.Stderr, "modprobe:", err)
				return 1
			}
		}
	}
	if !found {
		return 1
	}
	return 0
}
