package container

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ErrUnknownUser means that a name is in neither the image's /etc/passwd nor its
// /etc/group.
var ErrUnknownUser = errors.New("unknown user or group")

// MaxID is the greatest user or group id a container may be given. The kernel
// would take more, but many programs read ids into signed 32-bit numbers.
const MaxID = 1<<31 - 1

// maxGroups is NGROUPS_MAX of setgroups(2).
const maxGroups = 65536

// ResolveUser finds out who user[:group] is, given the contents of the image's
// passwd(5) and group(5) files.
//
// An empty user is root. A text of digits, signed or not, is always a number,
// whether or not the files know it, and never a name; outside 0..MaxID it is an
// error. Any other text must be a name in the files (ErrUnknownUser).
//
// Without a group, the primary group is the user's own, 0 for a user that the
// files do not know; and the groups that list the user's name as a member become
// supplementary. With a group, that one alone counts. groupAdd is added in both
// cases. The primary group is always among the supplementary ones, so that
// dropping it from a later setgroups cannot gain anything
// (CVE-2022-2989, CVE-2022-36109).
//
// home is the user's directory, "/" if the files name none.
func ResolveUser(user string, passwd, group []byte, groupAdd []string) (u specs.User, home string, err error) {
	name, groupName, _ := strings.Cut(user, ":")
	who, err := findUser(name, passwd)
	if err != nil {
		return specs.User{}, "", err
	}
	u = specs.User{UID: who.uid, GID: who.gid}
	if groupName != "" {
		if u.GID, err = findGroup(groupName, group); err != nil {
			return specs.User{}, "", err
		}
	}
	u.AdditionalGids = []uint32{u.GID}
	if groupName == "" && who.name != "" {
		u.AdditionalGids = append(u.AdditionalGids, memberships(who.name, group)...)
	}
	for _, g := range groupAdd {
		gid, err := findGroup(g, group)
		if err != nil {
			return specs.User{}, "", fmt.Errorf("--group-add: %w", err)
		}
		u.AdditionalGids = append(u.AdditionalGids, gid)
	}
	if u.AdditionalGids = unique(u.AdditionalGids); len(u.AdditionalGids) > maxGroups {
		return specs.User{}, "", fmt.Errorf("user %q is in %d groups: the kernel takes %d", user, len(u.AdditionalGids), maxGroups)
	}
	return u, who.home, nil
}

// account is one line of passwd(5).
type account struct {
	name     string // empty for a number that the file does not know
	uid, gid uint32
	home     string
}

func findUser(user string, passwd []byte) (account, error) {
	want := account{home: "/"}
	isName := false
	if user != "" {
		uid, isNumber, err := parseID("user", user)
		if err != nil {
			return account{}, err
		}
		want.uid, isName = uid, !isNumber
	}
	for a := range accounts(passwd) {
		if isName && a.name == user || !isName && a.uid == want.uid {
			return a, nil
		}
	}
	if isName {
		return account{}, fmt.Errorf("user %q: %w: it is not in the image's /etc/passwd", user, ErrUnknownUser)
	}
	return want, nil
}

// accounts goes through the well-formed lines of a passwd(5) file. Lines with
// numbers out of range are passed over, so that such a line can never be
// mistaken for another user.
func accounts(passwd []byte) iter.Seq[account] {
	return func(yield func(account) bool) {
		for f := range databaseLines(passwd, 4) {
			uid, okUID := databaseID(f[2])
			gid, okGID := databaseID(f[3])
			if !okUID || !okGID {
				continue
			}
			a := account{name: f[0], uid: uid, gid: gid, home: "/"}
			if len(f) > 5 && strings.HasPrefix(f[5], "/") {
				a.home = f[5]
			}
			if !yield(a) {
				return
			}
		}
	}
}

func findGroup(name string, group []byte) (uint32, error) {
	gid, isNumber, err := parseID("group", name)
	if err != nil || isNumber {
		return gid, err
	}
	for f := range databaseLines(group, 3) {
		if gid, ok := databaseID(f[2]); ok && f[0] == name {
			return gid, nil
		}
	}
	return 0, fmt.Errorf("group %q: %w: it is not in the image's /etc/group", name, ErrUnknownUser)
}

// memberships lists the groups that name the user as a member, in file order.
func memberships(user string, group []byte) []uint32 {
	var out []uint32
	for f := range databaseLines(group, 4) {
		gid, ok := databaseID(f[2])
		if ok && slices.Contains(strings.Split(f[3], ","), user) {
			out = append(out, gid)
		}
	}
	return out
}

// databaseLines goes through the lines of a passwd(5) or group(5) file that have
// a name and at least so many fields. Comments and NIS entries (+, -) are not
// users.
func databaseLines(file []byte, fields int) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(string(file)) {
			line = strings.TrimRight(line, "\r\n")
			if line == "" || strings.ContainsRune("#+-:", rune(line[0])) {
				continue
			}
			f := strings.Split(line, ":")
			if len(f) >= fields && !yield(f) {
				return
			}
		}
	}
}

func databaseID(s string) (uint32, bool) {
	id, err := strconv.ParseUint(s, 10, 31)
	return uint32(id), err == nil
}

// parseID reads a number if s looks like one: digits with or without a sign.
// isNumber is false for anything else, which is then a name.
func parseID(what, s string) (id uint32, isNumber bool, err error) {
	digits := strings.TrimLeft(s, "+-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		if s == "" || strings.ContainsAny(s, ":/\x00\n") {
			return 0, false, fmt.Errorf("%s %q: not a name or a number", what, s)
		}
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, true, fmt.Errorf("%s %q: number out of range 0..%d", what, s, MaxID)
	}
	return uint32(n), true, nil
}

// unique keeps the first of equal ids. A group file may name very many.
func unique(ids []uint32) []uint32 {
	seen := make(map[uint32]bool, len(ids))
	return slices.DeleteFunc(ids, func(id uint32) bool {
		again := seen[id]
		seen[id] = true
		return again
	})
}
