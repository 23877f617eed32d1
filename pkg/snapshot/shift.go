package snapshot

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
)

// IDMap maps Size ids from Container on, in a user namespace, to those from Host on
// outside: a line of user_namespaces(7).
type IDMap struct {
	Container, Host, Size uint32
}

// shift turns the owners in an archive into those of a user namespace. The zero value
// changes nothing.
type shift struct {
	uids, gids []IDMap
	root       struct{ uid, gid int } // the namespace's root, outside
}

func newShift(uids, gids []IDMap) (shift, error) {
	s := shift{uids: uids, gids: gids}
	if uids == nil && gids == nil {
		return s, nil
	}
	var okUID, okGID bool
	s.root.uid, okUID = outside(uids, 0)
	s.root.gid, okGID = outside(gids, 0)
	if !okUID || !okGID {
		return shift{}, fmt.Errorf("id maps: id 0 is not in them, and image files belong to it")
	}
	return s, nil
}

func (s *shift) shifts() bool { return s.uids != nil || s.gids != nil }

// apply changes the owner in m.
func (s *shift) apply(m *meta) error {
	if !s.shifts() {
		return nil
	}
	uid, okUID := outside(s.uids, m.uid)
	gid, okGID := outside(s.gids, m.gid)
	if !okUID || !okGID {
		return fmt.Errorf("%w: owner %d:%d is not in the id maps", ErrUnmapped, m.uid, m.gid)
	}
	m.uid, m.gid = uid, gid
	if caps, ok := m.xattrs[capabilityXattr]; ok {
		m.xattrs[capabilityXattr] = s.capability(caps)
	}
	return nil
}

func outside(maps []IDMap, id int) (int, bool) {
	for _, m := range maps {
		if id >= int(m.Container) && id-int(m.Container) < int(m.Size) {
			return int(m.Host) + id - int(m.Container), true
		}
	}
	return 0, false
}

// The attribute with a file's capabilities, capabilities(7) "File capability extended
// attribute versioning": revision 2 is worth something in the initial user namespace
// only; revision 3 ends with the id outside of the root it is for.
const (
	capabilityXattr  = "security.capability"
	capRevisionMask  = 0xff000000
	capRevision2     = 0x02000000
	capRevision3     = 0x03000000
	capRevision2Size = 20
)

// capability makes revision 3 of revision 2, for the namespace's root.
func (s *shift) capability(value string) string {
	data := []byte(value)
	if len(data) != capRevision2Size {
		return value
	}
	magic := binary.LittleEndian.Uint32(data)
	if magic&capRevisionMask != capRevision2 {
		return value
	}
	binary.LittleEndian.PutUint32(data, magic&^capRevisionMask|capRevision3)
	return string(binary.LittleEndian.AppendUint32(data, uint32(s.root.uid)))
}

// admit gives work to the root of the user namespace, with whose rights overlayfs is
// mounted, and lets it pass, by its group, through the directories that lead to the
// snapshots. Those stay ours, since we write to them, and are closed to all others.
func (s *Store) admit(all []Info, work string) error {
	sh, err := newShift(s.opts.UIDMap, s.opts.GIDMap)
	if err != nil || !sh.shifts() {
		return err
	}
	if err := os.Lchown(work, sh.root.uid, sh.root.gid); err != nil {
		return err
	}
	dirs := []string{s.dir, filepath.Join(s.dir, shortDir)}
	for _, info := range all {
		dir := filepath.Dir(s.fs(info))
		dirs = append(dirs, filepath.Dir(dir), dir)
	}
	for _, dir := range dirs {
		if err := os.Lchown(dir, os.Geteuid(), sh.root.gid); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o710); err != nil {
			return err
		}
	}
	return nil
}
