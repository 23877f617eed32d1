// Package plugin asks programs that keep volumes by docker's protocol for volume plugins.
//
// # Theory of operation
//
// A plugin is found by its name: a socket NAME.sock, or a file NAME.spec or NAME.json that names one. It is an HTTP server, which
// answers each POST of a JSON document with another one, https://docs.docker.com/engine/extend/plugins_volume/. It keeps the
// content of its volumes, and mounts them on the host when it is told that a container needs one.
//
// The program is somebody else's: each answer has a deadline and a size, and a place that it names is only taken if it is a
// directory of the host that is called by its own name.
package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/spelling"
)

// Variable names the directories that plugins are looked for in, with colons between them, in place of Directories.
const Variable = "CONTAINR_VOLUME_PLUGINS"

// Directories are where plugins are looked for: sockets in the first, files that name a socket in all of them.
func Directories() []string {
	if list := os.Getenv(Variable); list != "" {
		return filepath.SplitList(list)
	}
	return []string{"/run/docker/plugins", "/etc/docker/plugins", "/usr/lib/docker/plugins"}
}

// Errors that callers tell apart.
var (
	// ErrNotFound means that there is no plugin of a name, or nobody answers at its socket.
	ErrNotFound = errors.New("no such volume plugin")
	// ErrRefused means that a plugin did not do what it was asked for.
	ErrRefused = errors.New("the volume plugin refuses")
	// ErrAnswer means that what a plugin answers cannot be taken.
	ErrAnswer = errors.New("the volume plugin answers what it may not")
)

const (
	// maxAnswer is how large an answer may be, and maxSpec a file that names a socket, in bytes.
	maxAnswer, maxSpec = 1 << 20, 64 << 10
	// patience is how long an answer may take: mounting a file system of the network takes its time.
	patience = 30 * time.Second
)

// Plugin is a program that keeps volumes.
type Plugin struct {
	name   string
	client *http.Client
}

// Open finds a plugin and asks it whether it keeps volumes.
func Open(ctx context.Context, name string) (*Plugin, error) {
	socket, err := find(name)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p := &Plugin{name, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: maxSpec}, Timeout: patience, CheckRedirect: noRedirect}}
	var can struct{ Implements []string }
	if err := p.ask(ctx, "Plugin.Activate", struct{}{}, &can); err != nil {
		return nil, err
	}
	if !slices.Contains(can.Implements, "VolumeDriver") {
		return nil, fmt.Errorf("plugin %s: %w, but is a %q: %w", name, errOtherKind, can.Implements, ErrNotFound)
	}
	return p, nil
}

// find is the socket of a plugin.
func find(name string) (string, error) {
	if !spelling.IsName(name, 128) {
		return "", fmt.Errorf("plugin %q: use letters, digits and _.-: %w", name, ErrNotFound)
	}
	for _, dir := range Directories() {
		path := filepath.Join(dir, name+".sock")
		if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
			return path, nil
		}
		for _, ext := range []string{".spec", ".json"} {
			path := filepath.Join(dir, name+ext)
			text, err := readBounded(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return "", err
			}
			return socketOf(path, text)
		}
	}
	return "", fmt.Errorf("plugin %s: nothing of that name in %s: %w", name, strings.Join(Directories(), ", "), ErrNotFound)
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err == nil && len(text) > maxSpec {
		err = fmt.Errorf("%s: more than %d bytes", path, maxSpec)
	}
	return text, err
}

// socketOf reads a file that names a socket: the address alone, or a JSON document with it.
func socketOf(path string, text []byte) (string, error) {
	address := strings.TrimSpace(string(text))
	if strings.HasSuffix(path, ".json") {
		var spec struct{ Addr string }
		if err := json.Unmarshal(text, &spec); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		address = spec.Addr
	}
	socket, ok := strings.CutPrefix(address, "unix://")
	if !ok || !filepath.IsAbs(socket) {
		return "", fmt.Errorf("%s: address %q: only unix://PATH, no plugin over the network: %w", path, address, ErrNotFound)
	}
	return socket, nil
}

// failure is what every answer may have.
type failure struct{ Err string }

// ask posts a document and reads the answer into out.
func (p *Plugin) ask(ctx context.Context, verb string, in, out any) error {
	wrap := func(err error) error { return fmt.Errorf("plugin %s: %s: %w", p.name, verb, err) }
	text, err := json.Marshal(in)
	if err != nil {
		return wrap(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+verb, bytes.NewReader(text))
	if err != nil {
		return wrap(err)
	}
	const media = "application/vnd.docker.plugins.v1.2+json"
	req.Header.Set("Accept", media)
	req.Header.Set("Content-Type", media)
	res, err := p.client.Do(req)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return wrap(fmt.Errorf("%w: %w", ErrNotFound, op))
	}
	if err != nil {
		return wrap(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return wrap(err)
	case len(body) > maxAnswer:
		return wrap(fmt.Errorf("%w: more than %d bytes", ErrAnswer, maxAnswer))
	}
	var f failure
	err = json.Unmarshal(body, &f)
	switch {
	case f.Err != "":
		return wrap(fmt.Errorf("%w: %.300q", ErrRefused, f.Err))
	case res.StatusCode != http.StatusOK:
		return wrap(fmt.Errorf("%w: status %d", ErrRefused, res.StatusCode))
	case err == nil && out != nil:
		err = json.Unmarshal(body, out)
	}
	if err != nil {
		return wrap(fmt.Errorf("%w: %w", ErrAnswer, err))
	}
	return nil
}

type named struct {
	Name string
	ID   string            `json:",omitempty"`
	Opts map[string]string `json:",omitempty"`
}

// Create has a volume made.
func (p *Plugin) Create(ctx context.Context, name string, options map[string]string) error {
	return p.ask(ctx, "VolumeDriver.Create", named{Name: name, Opts: options}, nil)
}

// Remove has a volume removed. One that the plugin does not know any more is no error.
func (p *Plugin) Remove(ctx context.Context, name string) error {
	err := p.ask(ctx, "VolumeDriver.Remove", named{Name: name}, nil)
	if !errors.Is(err, ErrRefused) {
		return err
	}
	if getErr := p.ask(ctx, "VolumeDriver.Get", named{Name: name}, nil); errors.Is(getErr, ErrRefused) {
		return nil
	}
	return err
}

// Path is where on the host a volume is, empty if it is not mounted.
func (p *Plugin) Path(ctx context.Context, name string) (string, error) {
	var place struct{ Mountpoint string }
	err := p.ask(ctx, "VolumeDriver.Path", named{Name: name}, &place)
	return place.Mountpoint, err
}

// Mount has a volume mounted for the container with an id, and says where it is. A place in the state root, or that has it in it, is
// ErrAnswer, as are those that are the kernel's.
func (p *Plugin) Mount(ctx context.Context, name, id, root string) (string, error) {
	var place struct{ Mountpoint string }
	if err := p.ask(ctx, "VolumeDriver.Mount", named{Name: name, ID: id}, &place); err != nil {
		return "", err
	}
	if err := checkPlace(place.Mountpoint, root); err != nil {
		return "", fmt.Errorf("plugin %s: volume %s: mount point %.300q: %w: %w", p.name, name, place.Mountpoint, ErrAnswer, err)
	}
	return place.Mountpoint, nil
}

// checkPlace refuses what is no directory that is called by its own name, and what is the kernel's or containr's.
func checkPlace(path, root string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return errors.New("not a path from / on")
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return errors.Unwrap(err)
	case !info.IsDir():
		return errors.New("not a directory")
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil && real != path {
		err = fmt.Errorf("it leads by links to %s", real)
	}
	if err != nil {
		return err
	}
	return checkOthers(path, root)
}

// kernels are the file systems that show the kernel's own state, by their numbers in statfs(2), wherever they are mounted.
// Devices have none of their own: devtmpfs says that it is a tmpfs, and is known by its path alone.
var kernels = []int64{unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEVPTS_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
	unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.NSFS_MAGIC, unix.SELINUX_MAGIC, unix.EFIVARFS_MAGIC}

// checkOthers refuses a directory that is the kernel's, or has to do with a state root.
func checkOthers(path, root string) error {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if within(path, dir) {
			return fmt.Errorf("it is in %s, which is the kernel's", dir)
		}
	}
	root, err := filepath.Abs(root)
	if err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	switch {
	case err != nil:
		return err
	case within(path, root):
		return errors.New("it is in the state root of containr")
	case within(root, path):
		return errors.New("the state root of containr is in it")
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if slices.Contains(kernels, int64(fs.Type)) {
		return errors.New("it is a file system that shows the kernel's own state")
	}
	return nil
}

// within reports whether a clean path is a directory or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// Unmount says that the container with an id needs a volume no more.
func (p *Plugin) Unmount(ctx context.Context, name, id string) error {
	return p.ask(ctx, "VolumeDriver.Unmount", named{Name: name, ID: id}, nil)
}
