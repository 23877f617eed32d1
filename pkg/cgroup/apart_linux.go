package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
)

// Apart makes a group below this one for processes that are to be found together, and
// ended together if need be, and returns it and where such a process is to go: on version
// 1 it is a group of one hierarchy, and the process is in the others where it would be. One
// that is there already is used. Its limits are those of the group above.
func (g *Group) Apart(name string) (*Group, []string, error) {
	main := g.main()
	if main == "" {
		return nil, nil, fs.ErrNotExist
	}
	dir := path.Join(main, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, nil, err
	}
	entrance := slices.Clone(g.paths)
	entrance[slices.Index(entrance, main)] = dir
	apart := Open(g.mode, []string{dir})
	apart.patience = g.patience
	return apart, entrance, nil
}
