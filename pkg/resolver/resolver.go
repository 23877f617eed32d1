// Package resolver has containers find each other by name.
//
// # Theory of operation
//
// Every network but the default one has a name server: the host's address in it, the gateway, answers there. One process
// for each state root does this for all of them, containr-monitor with the word resolver. It is not the monitor, whose death or
// upgrade must not silence names, and a container in the foreground has no monitor. The first container of
// such a network starts it, and it ends when no container is left that has names.
//
// What it knows is in files, one for each container that runs, which are written before the container's program starts:
//
//	RUN/resolver/ID     an Entry: names, addresses, the process
//	RUN/resolver.sock   "1 look ADDRESS..." is answered when all entries are known, and names are answered at
//	                    these gateways
//	RUN/resolver.lock   held by the resolver
//	RUN/resolver.start  held by who starts it
//	RUN/resolver.log    what it has to say
//
// It may be killed at any moment; the next one reads the same files. It learns of changes from inotify(7), and looks whether
// there are some before each answer: whatever was true when the question was sent is in the answer. An entry ends with
// the container's process, which a pidfd tells: a name is gone when the container is, whoever was killed with it and could not
// take the file away.
//
// Who asks is known by the address that the question comes from, and sees the names in all networks that it is in, and
// no others. What is no container's name is asked of the name servers that the container was given, or else of the host's
// own: from the host, as the host would, so that what a VPN or a local name server does with names is done for
// containers, too. Nobody in internal networks alone gets anything out of them that way.
//
// A policy may let a container reach names of others. Their addresses are put into sets of the packet filter (open.go) before the container is told of
// them, for as long as the answer is good: what it finds out otherwise stays closed.
//
// The parts: an Entry and its file (this one); the view, which is all entries in a form to look things up in (view.go);
// answers as a pure function of view and question (answer.go); what others know (forward.go), and what that opens (open.go); the process
// (serve.go); and who starts it (client.go).
package resolver

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/quickjson"
)

// Entry is a container that runs, as its neighbours know it.
type Entry struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// PID is its first process, and Start what proc_pid_stat(5) calls starttime.
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	// Servers are asked for what is no container's name, in place of the host's.
	Servers []netip.Addr `json:"servers,omitempty"`
	// Plugs are the networks that it is in.
	Plugs []Plug `json:"plugs"`
	// Table has the sets of Opens, as package nft calls it.
	Table string `json:"table,omitempty"`
}

// Plug is a network with what a container has there.
type Plug struct {
	Network   string         `json:"network"`
	NetworkID string         `json:"networkID"`
	Subnets   []netip.Prefix `json:"subnets"`
	// Gateway is where the network's names are asked for; invalid if they are not.
	Gateway  netip.Addr `json:"gateway,omitzero"`
	Internal bool       `json:"internal,omitempty"`
	// Mute: nobody in the network is found by a name; others are asked for what is asked there.
	Mute      bool         `json:"mute,omitempty"`
	Addresses []netip.Addr `json:"addresses"`
	// Aliases are names beside the container's own.
	Aliases []string `json:"aliases,omitempty"`
	// Link is the container's port of the network, and Opens are the names whose addresses are to be reached through it.
	Link  string `json:"link,omitempty"`
	Opens []Open `json:"opens,omitempty"`
}

// Open is a name that a policy lets a container reach: its addresses go into sets of the packet filter before they are told.
type Open struct {
	// Name is one, in lower case, or *. and a name for all that are below it.
	Name string `json:"name"`
	// Set is the beginning of the names of the sets: 4 or 6 follows. Their keys are Link and an address.
	Set string `json:"set"`
}

func dirOf(run string) string { return filepath.Join(run, "resolver") }

// Write makes an entry known, or replaces it. Start is filled in.
func Write(run string, e Entry) error {
	start, err := startOf(e.PID)
	if err != nil {
		return fmt.Errorf("names of container %s: %w", e.Name, err)
	}
	e.Start = start
	data, err := quickjson.Append(nil, e)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dirOf(run), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dirOf(run), e.ID), data, durable.Options{Volatile: true})
}

// Reopen has a container's entry say which names it may reach, if there is an entry and it says otherwise. opens is by the names of links.
func Reopen(run, id, table string, opens map[string][]Open) (changed bool, err error) {
	e, err := read(run, id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for i := range e.Plugs {
		if now := opens[e.Plugs[i].Link]; !slices.Equal(now, e.Plugs[i].Opens) {
			e.Plugs[i].Opens, e.Table, changed = now, table, true
		}
	}
	if !changed {
		return false, nil
	}
	data, err := quickjson.Append(nil, e)
	if err != nil {
		return false, err
	}
	return true, durable.WriteFile(filepath.Join(dirOf(run), id), data, durable.Options{Volatile: true})
}

// Remove has a container's names be forgotten. One without is no error.
func Remove(run, id string) error {
	err := os.Remove(filepath.Join(dirOf(run), id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// maxEntry bounds an entry's file, in bytes.
const maxEntry = 1 << 20

// read reads the entry of a container.
func read(run, id string) (Entry, error) {
	var e Entry
	path := filepath.Join(dirOf(run), id)
	info, err := os.Stat(path)
	if err != nil {
		return e, err
	}
	if info.Size() > maxEntry {
		return e, fmt.Errorf("%s: larger than %d bytes", path, maxEntry)
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = quickjson.Decode(string(data), &e)
	}
	if err == nil && e.ID != id {
		err = fmt.Errorf("%s: it is of container %q", path, e.ID)
	}
	return e, err
}

// isID reports whether a file of the directory is an entry.
func isID(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}

// startOf is when a process began, in the kernel's ticks: with its number that tells it from all others of this boot.
func startOf(pid int) (uint64, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/stat"
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The name in brackets may hold anything; what follows it is numbers.
	const starttime = 22 - 3 // fields are counted from 1, and two come before the bracket
	_, after, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(after)
	if len(fields) <= starttime {
		return 0, fmt.Errorf("%s: %d fields", path, len(fields))
	}
	return strconv.ParseUint(fields[starttime], 10, 64)
}
