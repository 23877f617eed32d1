// Package cni has programs of others connect containers with networks: plugins of the Container Network
// Interface, CNI.
//
// # Theory of operation
//
// A network is a file in a directory of the host's, such as /etc/cni/net.d: it names plugins, which are
// programs, and says what they are to be told. They are executed one after the other, each with the command
// ADD in its environment, the network namespace as a path, and its part of the file on its standard input,
// together with the result of the one before. Each prints what the container has now. To disconnect it
// they are executed in reverse, with the command DEL.
//
// A file is read and checked when a container is made (Find), so that what is wrong in it, or a plugin that is
// missing, is said before anything is done. Connect plans the calls: it is pure, and every step carries all that
// it needs, an Attachment. So does its inverse, which is in the journal of the container before the first plugin
// runs: whoever undoes it asks no file that may have changed.
//
// Three things keep a container that was killed at any moment from leaving anything:
//
//   - the network namespace has a name in the file system (PinNamespace) until the last DEL has succeeded.
//     Plugins look into it then, for the addresses whose rules are to go, and the kernel would have taken it away with
//     the container's last process;
//   - a plugin inherits a descriptor on which there is a lock, and so does what it executes. DEL takes the lock first, and so
//     waits for an ADD that goes on after containr was killed;
//   - DEL of what was never added is no error for a plugin, so it is made for all plugins of a network of
//     which one has failed.
//
// What the last plugin printed is kept in a cache, for DEL, for CHECK, and for whoever asks for the container's
// addresses. It is in the run directory and goes with a boot.
package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/containr/containr/internal/spelling"
)

// Prefix is what tells the name of such a network from that of one of containr's own.
const Prefix = "cni:"

// DefaultConf is the directory of networks, and DefaultBin are those of plugins: of whoever installs them by
// hand, and Debian's.
const DefaultConf = "/etc/cni/net.d"

// DefaultBin: see DefaultConf.
var DefaultBin = []string{"/opt/cni/bin", "/usr/lib/cni"}

// Errors that callers tell apart.
var (
	// ErrNotFound means that no file is about a network of that name.
	ErrNotFound = errors.New("no such CNI network")
	// ErrInvalid means that a file is not what the specification says.
	ErrInvalid = errors.New("not a CNI network")
	// ErrVersion means that a file, or a plugin, is of a version of the specification that the other does not know.
	ErrVersion = errors.New("unknown version of CNI")
	// ErrNoPlugin means that a program that a file names is in none of the directories.
	ErrNoPlugin = errors.New("no such CNI plugin")
	// ErrNoCapability means that none of a network's plugins can do what was asked for.
	ErrNoCapability = errors.New("none of the network's plugins can do that")
	// ErrPlugin means that a plugin has refused, or has printed what cannot be understood.
	ErrPlugin = errors.New("the plugin failed")
)

// Dirs is where networks and plugins are looked for. The zero value is the usual places.
type Dirs struct {
	Conf string   `json:"conf"`
	Bin  []string `json:"bin"`
}

// Complete fills in the usual places.
func (d Dirs) Complete() Dirs {
	if d.Conf == "" {
		d.Conf = DefaultConf
	}
	if len(d.Bin) == 0 {
		d.Bin = slices.Clone(DefaultBin)
	}
	return d
}

// Network is a file about a network.
type Network struct {
	File string
	// List is what it says.
	List *libcni.NetworkConfigList
	// Plugins are the types of its plugins, in their order, and of what these execute themselves.
	Plugins []string
	// Netavark is set if netavark makes it; then there is no file.
	Netavark *NetavarkNetwork
}

// Has reports whether one of the plugins takes a capability argument.
func (n Network) Has(capability string) bool {
	return slices.ContainsFunc(n.List.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Capabilities[capability] })
}

// CanPublish reports whether ports of the host can lead to containers in it.
func (n Network) CanPublish() bool {
	return n.Netavark != nil && !n.Netavark.Internal || n.Has("portMappings")
}

// maxFile bounds the file of a network, in bytes.
const maxFile = 1 << 20

// List reads all networks of a directory, in the order of the files' names, which is that of preference. Files that are
// no networks are in the error; the others are returned all the same. A directory that is not there has none.
func (d Dirs) List() ([]Network, error) {
	d = d.Complete()
	entries, err := os.ReadDir(d.Conf)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("CNI networks: %w", err)
	}
	var list []Network
	var failures []error
	files := map[string]string{}
	for _, entry := range entries {
		if !isConf(entry) {
			continue
		}
		n, err := Read(filepath.Join(d.Conf, entry.Name()))
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if first := files[n.List.Name]; first != "" {
			failures = append(failures, fmt.Errorf("%s: it is not used: %s is about %s%s, too, and comes first: %w", n.File, first, Prefix, n.List.Name, ErrInvalid))
			continue
		}
		files[n.List.Name] = n.File
		list = append(list, n)
	}
	return list, errors.Join(failures...)
}

// First finds the network that is preferred, with all its plugins.
func (d Dirs) First() (Network, error) {
	d = d.Complete()
	list, unreadable := d.List()
	if len(list) == 0 {
		return Network{}, errors.Join(unreadable, fmt.Errorf("networks %s: no file in %s is about one: %w", Prefix, d.Conf, ErrNotFound))
	}
	return list[0], d.checkPlugins(list[0])
}

// NotFoundError says that no file is about a network.
type NotFoundError struct {
	Name, Conf string
	// Near is the network that has nearly that name, with the prefix.
	Near string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("network %s%s: no file in %s is about it: %v", Prefix, e.Name, e.Conf, ErrNotFound)
}

// Unwrap is ErrNotFound.
func (e *NotFoundError) Unwrap() error { return ErrNotFound }

// Find finds a network by its name, with all its plugins. If there is none, the error also says what is wrong with the files
// that may be about it: they have its name, or have it in them.
func (d Dirs) Find(name string) (Network, error) {
	d = d.Complete()
	if name == "" {
		return Network{}, fmt.Errorf("network %s: which? A network's name belongs behind it: %w", Prefix, ErrNotFound)
	}
	list, _ := d.List() // of what is wrong in others' files nobody asks
	var names []string
	for _, n := range list {
		if n.List.Name == name {
			return n, d.checkPlugins(n)
		}
		names = append(names, n.List.Name)
	}
	missing := &NotFoundError{Name: name, Conf: d.Conf}
	if near := spelling.Nearest(name, names); near != "" {
		missing.Near = Prefix + near
	}
	if wrong := d.wrongAbout(name); wrong != nil {
		return Network{}, errors.Join(wrong, missing)
	}
	return Network{}, missing
}

// wrongAbout says what is wrong with the files that may be about a network.
func (d Dirs) wrongAbout(name string) error {
	entries, err := os.ReadDir(d.Conf)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("CNI networks: %w", err)
	}
	var failures []error
	for _, entry := range entries {
		path := filepath.Join(d.Conf, entry.Name())
		if !isConf(entry) {
			continue
		}
		_, err := Read(path)
		if err == nil {
			continue
		}
		stem := strings.TrimSuffix(entry.Name(), filepath.Ext(entry.Name()))
		var text []byte
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() <= maxFile {
			text, _ = os.ReadFile(path) // Read has said why not
		}
		if stem == name || strings.HasSuffix(stem, "-"+name) || bytes.Contains(text, []byte(`"`+name+`"`)) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// isConf reports whether a file is looked at.
func isConf(entry fs.DirEntry) bool {
	ext := filepath.Ext(entry.Name())
	return !entry.IsDir() && (ext == ".conf" || ext == ".conflist" || ext == ".json")
}

// checkPlugins looks for the programs.
func (d Dirs) checkPlugins(n Network) error {
	for _, plugin := range n.Plugins {
		if _, err := d.plugin(plugin); err != nil {
			return fmt.Errorf("network %s%s (%s): %w", Prefix, n.List.Name, n.File, err)
		}
	}
	return nil
}

// plugin finds a program.
func (d Dirs) plugin(name string) (string, error) {
	for _, dir := range d.Bin {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("plugin %q: it is not in %s: %w", name, strings.Join(d.Bin, ", nor in "), ErrNoPlugin)
}

// Read reads a network's file.
func Read(path string) (Network, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Network{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return Network{}, fmt.Errorf("%s: not a file of at most %d bytes: %w", path, maxFile, ErrInvalid)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Network{}, err
	}
	return Parse(path, data)
}

// document is what is checked of a file, beside what libcni does.
type document struct {
	Name       string            `json:"name"`
	CNIVersion string            `json:"cniVersion"`
	Type       string            `json:"type"` // of a file that is a single plugin
	Plugins    []json.RawMessage `json:"plugins"`
}

// part is what is checked of a plugin.
type part struct {
	Type string `json:"type"`
	IPAM struct {
		Type string `json:"type"`
	} `json:"ipam"`
}

// Parse reads the text of a network's file: a list of plugins, or the older form that is one plugin.
func Parse(path string, data []byte) (Network, error) {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return Network{}, invalid(path, data, offsetOf(err), err.Error())
	}
	if d.Type != "" && d.Plugins == nil {
		d.Plugins = []json.RawMessage{data}
	}
	at := func(word string) int { return max(0, bytes.Index(data, []byte(`"`+word+`"`))) }
	switch {
	case d.Name == "":
		return Network{}, invalid(path, data, 0, `it has no "name"`)
	case checkName(d.Name) != nil:
		return Network{}, invalid(path, data, at("name"), checkName(d.Name).Error())
	case len(d.Plugins) == 0:
		return Network{}, invalid(path, data, at("plugins"), `it has no "plugins"`)
	case d.CNIVersion != "" && !slices.Contains(version.All.SupportedVersions(), d.CNIVersion):
		return Network{}, fmt.Errorf("%s:%d: cniVersion %q; there are %s: %w", path, lineOf(data, at("cniVersion")), d.CNIVersion,
			strings.Join(version.All.SupportedVersions(), ", "), ErrVersion)
	}
	n := Network{File: path}
	for i, raw := range d.Plugins {
		offset := max(0, bytes.Index(data, raw))
		var p part
		if err := json.Unmarshal(raw, &p); err != nil {
			return n, invalid(path, data, offset+offsetOf(err), err.Error())
		}
		if p.Type == "" || strings.ContainsAny(p.Type, `/\`) {
			return n, invalid(path, data, offset, fmt.Sprintf(`plugin %d has no "type" that is the name of a program`, i+1))
		}
		n.Plugins = append(n.Plugins, p.Type)
		if p.IPAM.Type != "" {
			n.Plugins = append(n.Plugins, p.IPAM.Type)
		}
	}
	if d.Type != "" && bytes.Equal(d.Plugins[0], data) { // the older form
		list, err := json.Marshal(map[string]any{"name": d.Name, "cniVersion": d.CNIVersion, "plugins": d.Plugins})
		if err != nil {
			return n, err
		}
		data = list
	}
	var err error
	n.List, err = libcni.NetworkConfFromBytes(data)
	if err != nil {
		return n, invalid(path, data, 0, err.Error())
	}
	return n, nil
}

func invalid(path string, data []byte, offset int, text string) error {
	return fmt.Errorf("%s:%d: %s: %w", path, lineOf(data, offset), text, ErrInvalid)
}

// lineOf is the line of a place in a text, counted from 1.
func lineOf(data []byte, offset int) int {
	return 1 + bytes.Count(data[:min(offset, len(data))], []byte("\n"))
}

// offsetOf is the place that an error of package json is about.
func offsetOf(err error) int {
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return int(syntax.Offset)
	case errors.As(err, &typed):
		return int(typed.Offset)
	}
	return 0
}
