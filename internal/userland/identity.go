package userland

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Account databases. A name that is not in /etc/passwd or /etc/group is never invented: the number is printed.
const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// account is one line of the passwd or the group file.
type account struct {
	name    string
	id      int      // uid or gid
	gid     int      // primary group, of a passwd line
	members []string // of a group line
}

// accounts reads a database. A missing file has no accounts, and a line that is not one is skipped.
func accounts(file string) []account {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []account
	for in := bufio.NewScanner(f); in.Scan(); {
		fields := strings.Split(in.Text(), ":")
		if len(fields) < 4 {
			continue
		}
		id, err := strconv.Atoi(fields[2])
		if err != nil {
			continue
		}
		a := account{name: fields[0], id: id}
		if file == groupFile {
			a.members = strings.Split(fields[3], ",")
		} else {
			a.gid, _ = strconv.Atoi(fields[3])
		}
		all = append(all, a)
	}
	return all
}

// names maps the ids of a database to names; the first line of an id wins.
func names(file string) map[int]string {
	byID := map[int]string{}
	for _, a := range accounts(file) {
		if _, seen := byID[a.id]; !seen {
			byID[a.id] = a.name
		}
	}
	return byID
}

// nameOr is the name of an id, or its number.
func nameOr(names map[int]string, id int) string {
	if name, ok := names[id]; ok {
		return name
	}
	return strconv.Itoa(id)
}

func lookupUser(user string) (int, error)   { return lookup(passwdFile, "user", user) }
func lookupGroup(group string) (int, error) { return lookup(groupFile, "group", group) }

func lookup(file, kind, name string) (int, error) {
	for _, a := range accounts(file) {
		if a.name == name {
			return a.id, nil
		}
	}
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		return int(id), nil
	}
	return 0, fmt.Errorf("no such %s: %q", kind, name)
}

func primaryGroup(uid int) (int, error) {
	for _, a := range accounts(passwdFile) {
		if a.id == uid {
			return a.gid, nil
		}
	}
	return 0, fmt.Errorf("no such user: %d", uid)
}

// who is a set of ids, of this process or of an account.
type who struct {
	uid, euid, gid, egid int
	groups               []int
}

// self asks the kernel.
func self() (who, error) {
	groups, err := os.Getgroups()
	return who{os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), groups}, err
}

// selfOr is the user whom the operand names, or, without one, this process's.
func selfOr(operands []string) (who, error) {
	if len(operands) == 0 {
		return self()
	}
	return userNamed(operands[0])
}

// userNamed asks the databases.
func userNamed(name string) (who, error) {
	for _, a := range accounts(passwdFile) {
		if a.name != name && strconv.Itoa(a.id) != name {
			continue
		}
		w := who{a.id, a.id, a.gid, a.gid, []int{a.gid}}
		for _, g := range accounts(groupFile) {
			if slices.Contains(g.members, a.name) && g.id != a.gid {
				w.groups = append(w.groups, g.id)
			}
		}
		return w, nil
	}
	return who{}, fmt.Errorf("no such user: %q", name)
}

// all are the effective group and the supplementary groups, each once.
func (w who) all() []int {
	groups := []int{w.egid}
	for _, g := range w.groups {
		if !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	return groups
}

func runID(p *Proc) error {
	user := p.Bool("user", "u", "print the effective user id only")
	group := p.Bool("group", "g", "print the effective group id only")
	groups := p.Bool("groups", "G", "print all group ids only")
	name := p.Bool("name", "n", "print names, with -u, -g or -G")
	real := p.Bool("real", "r", "print the real id, with -u or -g")
	operands, err := p.Parse(0, 1)
	if err != nil {
		return err
	}
	w, err := selfOr(operands)
	if err != nil {
		return err
	}
	if *real {
		w.euid, w.egid = w.uid, w.gid
	}
	users, groupNames := names(passwdFile), names(groupFile)
	if !*name {
		users, groupNames = nil, nil
	}
	switch {
	case *user:
		fmt.Fprintln(p.Out, nameOr(users, w.euid))
	case *group:
		fmt.Fprintln(p.Out, nameOr(groupNames, w.egid))
	case *groups:
		fmt.Fprintln(p.Out, joined(w.all(), " ", func(g int) string { return nameOr(groupNames, g) }))
	case *name || *real:
		return Usagef("-n and -r go with -u, -g or -G")
	default:
		fmt.Fprintln(p.Out, w.describe(names(passwdFile), names(groupFile)))
	}
	return nil
}

// describe is the full line of id: effective ids are shown where they differ from the real ones.
func (w who) describe(users, groups map[int]string) string {
	pair := func(names map[int]string, id int) string {
		if name, ok := names[id]; ok {
			return fmt.Sprintf("%d(%s)", id, name)
		}
		return strconv.Itoa(id)
	}
	s := "uid=" + pair(users, w.uid) + " gid=" + pair(groups, w.gid)
	if w.euid != w.uid {
		s += " euid=" + pair(users, w.euid)
	}
	if w.egid != w.gid {
		s += " egid=" + pair(groups, w.egid)
	}
	return s + " groups=" + joined(w.all(), ",", func(g int) string { return pair(groups, g) })
}

func joined[T any](items []T, sep string, text func(T) string) string {
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = text(item)
	}
	return strings.Join(words, sep)
}

func runWhoami(p *Proc) error {
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	uid := os.Geteuid()
	name, ok := names(passwdFile)[uid]
	if !ok {
		return fmt.Errorf("user id %d has no name in %s", uid, passwdFile)
	}
	fmt.Fprintln(p.Out, name)
	return nil
}

func runGroups(p *Proc) error {
	operands, err := p.Parse(0, 1)
	if err != nil {
		return err
	}
	w, err := selfOr(operands)
	if err != nil {
		return err
	}
	groups := names(groupFile)
	fmt.Fprintln(p.Out, joined(w.all(), " ", func(g int) string { return nameOr(groups, g) }))
	return nil
}
