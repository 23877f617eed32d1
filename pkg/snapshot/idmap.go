package snapshot

import (
	"context"
	"errors"
	"fmt"
)

// MappedView returns what to mount so that the tree of chain appears read-only, with the owners that the maps give to those
// that the layers name: Container is an id of a layer, Host the one that it appears as. Files of others appear as nobody's
// (65534), and nothing on disk is changed or copied for a map.
//
// The kernel maps the mounts of one file system, and no overlay (mount_setattr(2), MOUNT_ATTR_IDMAP). So what is mounted is
// a single directory, whatever the driver: that of the layer if there is but one, else the tree of the whole chain, which
// is made once for all maps. Whether the file system can be mounted with a map is for the caller to find out: see
// [github.com/containr/containr/pkg/host.Facts.NoIDMap].
func (s *Store) MappedView(ctx context.Context, chain ChainID, uids, gids []IDMap) (Mount, error) {
	m, err := s.mappedView(ctx, chain, uids, gids)
	if err != nil {
		return Mount{}, fmt.Errorf("view %s with other owners: %w", chain, err)
	}
	return m, nil
}

func (s *Store) mappedView(ctx context.Context, chain ChainID, uids, gids []IDMap) (Mount, error) {
	sh, err := newShift(uids, gids)
	if err != nil {
		return Mount{}, err
	}
	if len(s.opts.UIDMap)+len(s.opts.GIDMap) > 0 {
		return Mount{}, errors.New("the owners in this store are mapped already")
	}
	all, err := s.chain(chain)
	if err != nil {
		return Mount{}, err
	}
	if len(all) == 0 { // an empty tree of the map's root
		return Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"ro", "mode=755", fmt.Sprintf("uid=%d,gid=%d", sh.root.uid, sh.root.gid)}}, nil
	}
	dir := s.fs(all[0])
	if len(lowers(all)) > 1 || s.marks.plain() || all[0].Image {
		if dir, err = s.flat(ctx, all); err != nil {
			return Mount{}, err
		}
	}
	m := bind(dir, "ro")
	m.UIDMap, m.GIDMap = uids, gids
	return m, nil
}
