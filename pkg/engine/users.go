package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/host"
)

// # Which ids containers with users of their own have
//
// With --userns-remap all of them have those that the machine's administrator has granted to one
// user; with --userns auto each has its own, out of those that he has granted to the user
// AutoUser, as podman calls it.
//
// Who has which is a directory of claims: a symbolic link for each container, whose name is the
// range and whose text is the id. A claim counts while its container exists or is being made, as
// the store of containers says: so it is right after any crash, and one that was left behind is
// swept when there seems to be no room. A lock is held from looking to claiming.

// Users who need not exist, but for the lines of theirs in /etc/subuid and /etc/subgid.
const (
	// AutoUser has the ids of containers with --userns auto.
	AutoUser = "containers"
	// RemapUser is whom --userns-remap default means.
	RemapUser = "containr"
)

// Errors of ids for containers.
var (
	// ErrNoAutoIDs means that there are not enough ids left for a container.
	ErrNoAutoIDs = errors.New("not enough ids are left")
	// ErrNeedsIDMaps means that files cannot be shown with other owners here.
	ErrNeedsIDMaps = errors.New("the owners of files cannot be mapped here")
)

// remap gives a container the users that it is to have if it asks for none.
func (e *Engine) remap(c *container.Config) error {
	if c.UsersRemap == "" {
		return nil
	}
	facts, err := e.facts()
	if err != nil {
		return err
	}
	if !facts.Root() {
		return errors.New("--userns-remap: is for root: the users of an ordinary user's containers are others anyway")
	}
	if c.Namespaces.User != "" || len(c.UIDMap)+len(c.GIDMap) > 0 {
		return nil
	}
	user, group, both := strings.Cut(c.UsersRemap, ":")
	if !both {
		group = user
	}
	if user == "" || group == "" {
		return fmt.Errorf("--userns-remap %s: not USER[:GROUP] or default", c.UsersRemap)
	}
	if c.UsersRemap == "default" {
		user, group = RemapUser, RemapUser
	}
	uids, gids, err := host.SubordinateIDs(user, group)
	if err != nil {
		return fmt.Errorf("--userns-remap %s: %w", c.UsersRemap, err)
	}
	c.Namespaces.User = container.Private
	c.UIDMap, c.GIDMap = inARow(uids), inARow(gids)
	return nil
}

// inARow maps ranges to the numbers from 0 on.
func inARow(ranges []host.IDRange) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	next := uint32(0)
	for _, r := range ranges {
		n := min(r.Count, math.MaxUint32-next, math.MaxUint32-r.First)
		if n > 0 {
			out = append(out, specs.LinuxIDMapping{ContainerID: next, HostID: r.First, Size: n})
		}
		next += n
	}
	return out
}

// allocateUsers finds ids for a container with --userns auto, which is reserved, and claims them.
func (e *Engine) allocateUsers(ctx context.Context, p *prepared) error {
	if !p.config.Namespaces.IsAuto() || len(p.config.UIDMap) > 0 {
		return nil
	}
	u, err := container.ParseUsers(p.config.Namespaces.User)
	if err != nil {
		return err
	}
	size := u.Size
	if size == 0 {
		passwd, group, err := e.userDatabase(p)
		if err != nil {
			return err
		}
		user := p.config.User
		if user == "" && p.image != nil {
			user = p.image.Config.Config.User
		}
		size = container.UsersNeeded(passwd, group, user)
	}
	uids, gids, err := host.SubordinateIDs(AutoUser, AutoUser)
	if err != nil {
		return fmt.Errorf("--userns auto: %w", err)
	}
	uid, gid, err := e.claimIDs(ctx, p.place.ID, uids, gids, size)
	if err != nil {
		return fmt.Errorf("--userns auto: %w", err)
	}
	p.config.UIDMap, p.config.GIDMap = container.AutoMaps(u, size, uid, gid)
	return nil
}

// mapOwners decides whether a container sees its files by id-mapped mounts, see home. One whose ids are found
// as it is made has to: else its image would be copied for it alone.
func (e *Engine) mapOwners(c *container.Config) error {
	facts, err := e.facts()
	if err != nil || c.Namespaces.User == container.HostNamespace || !facts.Root() {
		return err
	}
	on, err := e.storage(e.root)
	if err != nil {
		return err
	}
	why := facts.NoMappedLayers(on)
	if way, err := e.chooseSnapshotter(e.root, false); err == nil && way.Name == host.FuseSnapshotter {
		why = "the snapshotter " + way.Name + " cannot be mapped"
	}
	c.IDMapped = why == ""
	if !c.IDMapped && c.Namespaces.IsAuto() {
		return fmt.Errorf("--userns auto: %w, and its image would be copied for each container: %s", ErrNeedsIDMaps, why)
	}
	return nil
}

// claim is what a container has: Size ids from UID and GID on.
type claim struct {
	UID, GID, Size uint32
	id             string // the container's
}

func (c claim) String() string { return fmt.Sprintf("%d-%d-%d", c.UID, c.GID, c.Size) }

func (e *Engine) claimsDir() string { return filepath.Join(e.root, "userns") }

// claims lists what containers have. What is no claim is passed over.
func (e *Engine) claims() ([]claim, error) {
	entries, err := os.ReadDir(e.claimsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []claim
	for _, entry := range entries {
		var c claim
		if n, err := fmt.Sscanf(entry.Name(), "%d-%d-%d", &c.UID, &c.GID, &c.Size); err != nil || n != 3 || c.String() != entry.Name() {
			continue
		}
		if c.id, err = os.Readlink(filepath.Join(e.claimsDir(), entry.Name())); err == nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// claimIDs finds the first size ids of both kinds that no container has.
func (e *Engine) claimIDs(ctx context.Context, id string, uids, gids []host.IDRange, size uint32) (uid, gid uint32, err error) {
	if err := os.MkdirAll(e.claimsDir(), 0o700); err != nil {
		return 0, 0, err
	}
	lock, err := durable.Acquire(ctx, e.claimsDir()+".lock", durable.Exclusive)
	if err != nil {
		return 0, 0, err
	}
	defer lock.Release()
	all, err := e.claims()
	if err != nil {
		return 0, 0, err
	}
	for swept := false; ; swept = true {
		var okUID, okGID bool
		uid, okUID = firstFree(uids, all, size, func(c claim) uint32 { return c.UID })
		gid, okGID = firstFree(gids, all, size, func(c claim) uint32 { return c.GID })
		if okUID && okGID {
			break
		}
		if swept {
			return 0, 0, fmt.Errorf("%w: %d are wanted, and %d containers have some of those of %s", ErrNoAutoIDs, size, len(all), AutoUser)
		}
		if all, err = e.sweepClaims(all); err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, os.Symlink(id, filepath.Join(e.claimsDir(), claim{UID: uid, GID: gid, Size: size}.String()))
}

// sweepClaims removes the claims of containers that are gone, and returns the others. The lock is held.
func (e *Engine) sweepClaims(all []claim) ([]claim, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(c claim) bool {
		if containers.Alive(c.id) {
			return false
		}
		err := os.Remove(filepath.Join(e.claimsDir(), c.String()))
		return err == nil || errors.Is(err, fs.ErrNotExist)
	}), nil
}

// firstFree finds the lowest size numbers of the ranges that none of the claims has.
func firstFree(ranges []host.IDRange, all []claim, size uint32, first func(claim) uint32) (uint32, bool) {
	taken := slices.Clone(all)
	sort.Slice(taken, func(i, j int) bool { return first(taken[i]) < first(taken[j]) })
	ranges = slices.Clone(ranges)
	sort.Slice(ranges, func(i, j int) bool { return ranges[i].First < ranges[j].First })
	for _, r := range ranges {
		at, end := uint64(r.First), min(uint64(r.First)+uint64(r.Count), math.MaxUint32)
		for _, c := range taken {
			from, to := uint64(first(c)), uint64(first(c))+uint64(c.Size)
			if to <= at {
				continue
			}
			if from >= at+uint64(size) {
				break
			}
			at = to
		}
		if at+uint64(size) <= end {
			return uint32(at), true
		}
	}
	return 0, false
}

// releaseUsers gives back what a container has claimed.
func (e *Engine) releaseUsers(id string) error {
	all, err := e.claims()
	for _, c := range all {
		if c.id == id {
			if removeErr := os.Remove(filepath.Join(e.claimsDir(), c.String())); !errors.Is(removeErr, fs.ErrNotExist) {
				err = errors.Join(err, removeErr)
			}
		}
	}
	return err
}

// releaseUsersOf is releaseUsers, for a container that is known.
func (e *Engine) releaseUsersOf(c container.Config, id string) error {
	if !c.Namespaces.IsAuto() {
		return nil
	}
	return e.releaseUsers(id)
}
