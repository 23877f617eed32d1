package host

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/sys"
)

// Where subordinate ids are granted, subuid(5) and subgid(5).
const (
	subUIDFile = "/etc/subuid"
	subGIDFile = "/etc/subgid"
)

// maxIDTable bounds what is read of such a file, in bytes.
const maxIDTable = 4 << 20

// nobodysID is the number that means no user: (uid_t)-1 of credentials(7).
const nobodysID = 1<<32 - 1

// ErrNoSubIDs means that a user or a group has no subordinate ids.
var ErrNoSubIDs = errors.New("no subordinate ids are granted")

// SubordinateIDs finds the subordinate ids of a user and of a group, which are names or numbers. They need
// not exist as users: names in the two files are names. Where the files say nothing, getsubids(1)
// is asked, if it is installed: it knows other sources. The error wraps ErrNoSubIDs if there are none.
func SubordinateIDs(user, group string) (uids, gids []IDRange, err error) {
	if uids, err = subordinate(subUIDFile, user); err == nil {
		gids, err = subordinate(subGIDFile, group, "-g")
	}
	return uids, gids, err
}

// AskSubordinateIDs completes SubUIDs and SubGIDs of an ordinary user whom the two files say nothing of: it asks
// getsubids(1). Who only runs bundles has no use for them, so Probe does not.
func (f *Facts) AskSubordinateIDs() {
	if f.Root() || len(f.SubUIDs)+len(f.SubGIDs) > 0 || f.Newuidmap == "" {
		return
	}
	name := userName(f.UID)
	if name == "" {
		name = askUserName(f.UID)
	}
	if name != "" {
		f.SubUIDs, f.SubGIDs = disjoint(f.UID, getsubids(name)), disjoint(f.GID, getsubids("-g", name))
	}
}

// askUserName finds the name of a user who is not in /etc/passwd, but in a directory such as LDAP: getent(1) knows all that the
// machine's name service does.
func askUserName(uid uint32) string {
	program := findProgram("getent")
	if program == "" {
		return ""
	}
	out, err := exec.Command(program, "passwd", strconv.FormatUint(uint64(uid), 10)).Output()
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(string(out), ":")
	return name
}

func subordinate(file, owner string, flags ...string) ([]IDRange, error) {
	name, number := owner, owner
	if n, err := strconv.ParseUint(owner, 10, 32); err == nil {
		name = userName(uint32(n))
	} else if n, ok := userNumber(owner); ok {
		number = n
	}
	table, err := sys.ReadFile(file, maxIDTable)
	if err == nil {
		if list := parseIDRanges(string(table), name, number); len(list) > 0 {
			return disjoint(nobodysID, list), nil
		}
	}
	if list := getsubids(append(flags, owner)...); len(list) > 0 {
		return disjoint(nobodysID, list), nil
	}
	return nil, fmt.Errorf("%s: %s: %w", file, owner, ErrNoSubIDs)
}

// getsubids asks the program of that name, whose lines are "NUMBER: OWNER FIRST COUNT".
func getsubids(args ...string) []IDRange {
	program := findProgram("getsubids")
	if program == "" {
		return nil
	}
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return nil
	}
	return parseGetsubids(string(out))
}

func parseGetsubids(out string) []IDRange {
	var list []IDRange
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 4 {
			continue
		}
		first, err1 := strconv.ParseUint(f[2], 10, 32)
		count, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 == nil && err2 == nil && count > 0 {
			list = append(list, IDRange{uint32(first), uint32(count)})
		}
	}
	return list
}

// userNumber finds the number of a user in /etc/passwd.
func userNumber(name string) (string, bool) {
	table, err := sys.ReadFile("/etc/passwd", maxIDTable)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(table)) {
		if p := strings.SplitN(line, ":", 4); len(p) == 4 && p[0] == name {
			return p[2], true
		}
	}
	return "", false
}
