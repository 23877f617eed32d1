package parts

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containr/containr/internal/sys"
)

// Presence is whether a part of the kernel is there.
type Presence string

// The three answers.
const (
	Present Presence = "present"
	Absent  Presence = "absent"
	Unknown Presence = "" // the kernel says nothing, and its configuration is nowhere
)

// Kernel is what can be known of a kernel's parts without loading any.
type Kernel struct {
	// names are modules that are loaded, built in, or can be loaded.
	names map[string]bool
	// config is the text of its configuration, empty if it is nowhere.
	config string
}

// Read looks for the parts of the running kernel, of this release.
func Read(release string) Kernel {
	k := Kernel{names: map[string]bool{}}
	for _, name := range namesIn("/sys/module") {
		k.names[name] = true
	}
	for _, file := range []string{"modules.builtin", "modules.dep"} {
		k.addModules(readText(filepath.Join("/lib/modules", release, file)))
	}
	k.config = readConfig(release)
	return k
}

// addModules reads lines such as "kernel/net/bridge/bridge.ko.xz: kernel/net/llc/llc.ko.xz".
func (k Kernel) addModules(text string) {
	for line := range strings.Lines(text) {
		path, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		name, _, isModule := strings.Cut(filepath.Base(path), ".ko")
		if isModule {
			k.names[strings.ReplaceAll(name, "-", "_")] = true
		}
	}
}

// readConfig reads the kernel's configuration where kernels and distributions keep it.
func readConfig(release string) string {
	for _, path := range []string{"/boot/config-" + release, filepath.Join("/lib/modules", release, "config")} {
		if text := readText(path); text != "" {
			return text
		}
	}
	packed, err := sys.ReadFile("/proc/config.gz", maxKernelFile)
	if err != nil {
		return ""
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(z, maxKernelFile))
	if err != nil {
		return ""
	}
	return string(text)
}

// Loadable reports whether a module is there.
func (k Kernel) Loadable(name string) bool { return k.names[name] }

// Presence says whether a part is there: a module of this name, or what the option of the configuration builds in.
func (k Kernel) Presence(name, option string) Presence {
	switch {
	case k.names[name], strings.Contains(k.config, "\n"+option+"=y\n"):
		return Present
	case k.config != "": // a module that is nowhere in /lib/modules, or nothing at all
		return Absent
	}
	return Unknown
}

// maxKernelFile bounds what is read of lists of modules and of the kernel's configuration, in bytes.
const maxKernelFile = 8 << 20

// readText reads a file; what cannot be read is empty.
func readText(path string) string {
	data, err := sys.ReadFile(path, maxKernelFile)
	if err != nil {
		return ""
	}
	return string(data)
}

// namesIn are the names in a directory, none if it cannot be read.
func namesIn(dir string) []string {
	list, _ := os.ReadDir(dir)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
