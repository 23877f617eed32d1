package container

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Words of --userns besides private, host and container:NAME.
const (
	// UsersAuto gives a container ids of its own, which no other container has at the time.
	UsersAuto = "auto"
	// UsersKeepID has the user who runs containr keep his id in the container.
	UsersKeepID = "keep-id"
	// UsersNoMap leaves the user who runs containr out of the container.
	UsersNoMap = "nomap"
)

// Bounds of the number of ids that UsersAuto finds out by itself.
const (
	MinAutoUsers = 1024
	MaxAutoUsers = 65536
)

// allIDs is how many ids there are: the last number means none.
const allIDs = math.MaxUint32

// Users is what a word of --userns says, with its options.
type Users struct {
	// Mode is the word without the options.
	Mode string
	// Size is how many ids the container is to have, 0 for as many as it needs.
	Size uint32
	// UID and GID, of UsersKeepID, are what the user is called inside; nil for what he is called outside.
	UID, GID *uint32
	// UIDMap and GIDMap, of UsersAuto, are ranges that are to be mapped just so.
	UIDMap, GIDMap []specs.LinuxIDMapping
}

// ParseUsers reads a value of --userns: WORD[:OPTION=VALUE,...]. The options are those of podman:
//
//	auto:size=N,uidmapping=CONTAINER:HOST:SIZE,gidmapping=CONTAINER:HOST:SIZE
//	keep-id:uid=N,gid=N,size=N
func ParseUsers(word string) (Users, error) {
	if _, joined := Joined(word); joined {
		return Users{Mode: word}, nil
	}
	mode, options, has := strings.Cut(word, ":")
	u := Users{Mode: mode}
	known := map[string][]string{UsersAuto: {"size", "uidmapping", "gidmapping"}, UsersKeepID: {"uid", "gid", "size"}}[mode]
	if has && known == nil {
		return u, fmt.Errorf("--userns %s: %s has no options", word, mode)
	}
	if !has {
		return u, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		if !slices.Contains(known, key) {
			return u, fmt.Errorf("--userns %s: unknown option %q: use %s=VALUE", word, o, strings.Join(known, "=VALUE or "))
		}
		if err := u.set(key, value); err != nil {
			return u, fmt.Errorf("--userns %s: %s: %w", word, key, err)
		}
	}
	return u, nil
}

func (u *Users) set(key, value string) error {
	switch key {
	case "uidmapping", "gidmapping":
		m, err := ParseIDMap(value)
		if key == "uidmapping" {
			u.UIDMap = append(u.UIDMap, m)
		} else {
			u.GIDMap = append(u.GIDMap, m)
		}
		return err
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n >= allIDs {
		return fmt.Errorf("%q is not a number from 0 to %d", value, uint32(allIDs-1))
	}
	id := uint32(n)
	switch key {
	case "size":
		if id == 0 {
			return errors.New("a container needs one id at least")
		}
		u.Size = id
	case "uid":
		u.UID = &id
	case "gid":
		u.GID = &id
	}
	return nil
}

// IsAuto reports whether the container's ids are to be found when it is made.
func (n Namespaces) IsAuto() bool {
	u, err := ParseUsers(n.User)
	return err == nil && u.Mode == UsersAuto
}

// keepIDMaps are the maps of UsersKeepID: all of them for root; for an ordinary user his own id, called
// as it is outside unless told, and the ids that he is granted around it, so that none is left out.
func keepIDMaps(u Users, m Machine) (uids, gids []specs.LinuxIDMapping) {
	if !m.Rootless {
		all := []specs.LinuxIDMapping{{Size: allIDs}}
		return all, slices.Clone(all)
	}
	return around(m.UIDMap, u.UID, u.Size), around(m.GIDMap, u.GID, u.Size)
}

// around arranges an ordinary user's usual map, whose first line is his own id, so that this is called keep.
func around(usual []specs.LinuxIDMapping, keep *uint32, size uint32) []specs.LinuxIDMapping {
	if len(usual) == 0 {
		return nil
	}
	own := usual[0].HostID
	if keep != nil {
		own = *keep
	}
	if size == 0 {
		size = allIDs
	}
	var out []specs.LinuxIDMapping
	next := uint32(0)
	put := func(host, n uint32) {
		n = min(n, size-min(size, next))
		if n > 0 {
			out = append(out, specs.LinuxIDMapping{ContainerID: next, HostID: host, Size: n})
			next += n
		}
	}
	placed := false
	for _, r := range usual[1:] {
		host, left := r.HostID, r.Size
		if n := own - min(own, next); !placed && n < left {
			put(host, n)
			host, left = host+n, left-n
			next, placed = own, true
			out = append(out, specs.LinuxIDMapping{ContainerID: own, HostID: usual[0].HostID, Size: 1})
			next++
		}
		put(host, left)
	}
	if !placed { // there are fewer ids than his number
		out = append(out, specs.LinuxIDMapping{ContainerID: own, HostID: usual[0].HostID, Size: 1})
	}
	return out
}

// keptUser is whom a program runs as in a container of UsersKeepID that names no user.
func keptUser(u Users, m Machine) string {
	if !m.Rootless || len(m.UIDMap) == 0 || len(m.GIDMap) == 0 {
		return ""
	}
	uid, gid := m.UIDMap[0].HostID, m.GIDMap[0].HostID
	if u.UID != nil {
		uid = *u.UID
	}
	if u.GID != nil {
		gid = *u.GID
	}
	return fmt.Sprintf("%d:%d", uid, gid)
}

// AutoMaps are the maps of UsersAuto with size ids, from uid and gid on outside, but for the ranges that
// are to be mapped otherwise.
func AutoMaps(u Users, size, uid, gid uint32) (uids, gids []specs.LinuxIDMapping) {
	return fillMap(u.UIDMap, size, uid), fillMap(u.GIDMap, size, gid)
}

// fillMap adds to forced what is missing of the container's ids below size, from first on outside.
func fillMap(forced []specs.LinuxIDMapping, size, first uint32) []specs.LinuxIDMapping {
	out := slices.Clone(forced)
	slices.SortFunc(out, func(a, b specs.LinuxIDMapping) int { return int(int64(a.ContainerID) - int64(b.ContainerID)) })
	next := uint32(0)
	var gaps []specs.LinuxIDMapping
	gap := func(end uint32) {
		if end > next {
			gaps = append(gaps, specs.LinuxIDMapping{ContainerID: next, HostID: first, Size: end - next})
			first += end - next
		}
	}
	for _, m := range out {
		gap(min(m.ContainerID, size))
		next = max(next, m.ContainerID+m.Size)
	}
	gap(size)
	out = append(out, gaps...)
	slices.SortFunc(out, func(a, b specs.LinuxIDMapping) int { return int(int64(a.ContainerID) - int64(b.ContainerID)) })
	return out
}

// UsersNeeded is how many ids a container needs whose image has these users and groups, and whose program
// runs as user (a number, or a name in passwd): all but those of nobody, whom everybody is without an id.
func UsersNeeded(passwd, group []byte, user string) uint32 {
	need := uint64(MinAutoUsers)
	look := func(table []byte, fields ...int) {
		for line := range bytes.Lines(table) {
			p := strings.Split(strings.TrimSpace(string(line)), ":")
			for _, f := range fields {
				if len(p) <= f || p[0] == "nobody" || p[0] == "nogroup" {
					continue
				}
				if id, err := strconv.ParseUint(p[f], 10, 32); err == nil {
					need = max(need, id+1)
				}
			}
		}
	}
	look(passwd, 2, 3)
	look(group, 2)
	for part := range strings.SplitSeq(user, ":") {
		if id, err := strconv.ParseUint(part, 10, 32); err == nil {
			need = max(need, id+1)
		}
	}
	return uint32(min(need, MaxAutoUsers))
}

// FormatIDMaps writes a map as --uidmap takes it, a range after the other.
func FormatIDMaps(maps []specs.LinuxIDMapping) []string {
	var out []string
	for _, m := range maps {
		out = append(out, formatIDMap(m))
	}
	return out
}

// validateUsers refuses a --userns that is none, or that the machine cannot give. Its maps may be missing
// as yet if they are to be found.
func validateUsers(c Config, m Machine) error {
	u, err := ParseUsers(c.Namespaces.User)
	if err != nil {
		return err
	}
	switch {
	case u.Mode == UsersNoMap && !m.Rootless:
		return errors.New("--userns nomap: root cannot be left out: use --userns auto")
	case u.Mode == UsersNoMap, u.Mode == UsersAuto && m.Rootless:
		return fmt.Errorf("--userns %s: the files of an ordinary user's images are his own, and he would be nobody in the container: use --userns keep-id, or run as root", u.Mode)
	case u.Mode == UsersKeepID && !m.Rootless && (u.UID != nil || u.GID != nil || u.Size != 0):
		return fmt.Errorf("--userns %s: root keeps all ids as they are: leave out the options, or use --uidmap and --gidmap", c.Namespaces.User)
	}
	return nil
}
