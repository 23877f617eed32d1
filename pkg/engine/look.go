package engine

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/safepath"
)

// look looks at a file of a container that does not run: in the bind that covers its path, else in the image's layers or the
// directory of --rootfs. Links that lead from one into the other are not followed: what they lead to is not found.
// What the container itself has changed is not seen.
func (e *Engine) look(p *prepared, name string) (lookedAt, error) {
	if m, ok := covering(p.spec.Mounts, name); ok {
		return lookBelow(m, name)
	}
	if p.config.Rootfs != "" {
		return lookIn(p.config.Rootfs, name)
	}
	snapshots, err := p.home.snapshots(e)
	if err != nil {
		return lookedAt{}, err
	}
	mode, head, err := snapshots.Peek(p.chain, name, headSize)
	return lookedAt{mode: mode, head: head}, err
}

// covering finds the mount that a path lies on, but for the root itself.
func covering(mounts []specs.Mount, name string) (specs.Mount, bool) {
	for _, m := range slices.Backward(mounts) {
		at := path.Clean(m.Destination)
		if at != "/" && (name == at || strings.HasPrefix(name, at+"/")) {
			return m, true
		}
	}
	return specs.Mount{}, false
}

// lookBelow looks at a file on a mount. Of what is no bind only the options are known.
func lookBelow(m specs.Mount, name string) (lookedAt, error) {
	noexec := slices.Contains(m.Options, "noexec")
	if m.Type != "bind" && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
		return lookedAt{noexec: noexec}, nil
	}
	rest := strings.TrimPrefix(name, path.Clean(m.Destination))
	dir, base := m.Source, rest
	if rest == "" { // the bind is of a file
		dir, base = path.Split(m.Source)
	}
	f, err := lookIn(dir, base)
	f.noexec = f.noexec || noexec
	return f, err
}

// lookIn looks at a file in a tree that may be anybody's, and may change meanwhile. Only a regular file is opened, and it
// is the one that was looked at.
func lookIn(dir, name string) (lookedAt, error) {
	root, err := safepath.OpenRoot(dir)
	if err != nil {
		return lookedAt{}, err
	}
	defer root.Close()
	place, err := root.OpenFile(name, unix.O_PATH, 0)
	if err != nil {
		return lookedAt{}, err
	}
	defer place.Close()
	var st unix.Stat_t
	var on unix.Statfs_t
	if err := unix.Fstat(int(place.Fd()), &st); err != nil {
		return lookedAt{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if err := unix.Fstatfs(int(place.Fd()), &on); err != nil {
		return lookedAt{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	f := lookedAt{mode: st.Mode, noexec: on.Flags&unix.ST_NOEXEC != 0}
	if f.kind() != unix.S_IFREG {
		return f, nil
	}
	file, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", place.Fd()), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return f, err
	}
	defer file.Close()
	f.head, err = io.ReadAll(io.LimitReader(file, headSize))
	return f, err
}
