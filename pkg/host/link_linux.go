package host

import "github.com/containr/containr/internal/sys"

// LookLinks looks at network devices of the caller's network namespace. Those that it
// does not have are left out.
func LookLinks(names []string) (map[string]Link, error) {
	r, err := sys.OpenRoute()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	all, err := r.Links()
	if err != nil {
		return nil, err
	}
	found := make(map[string]Link)
	for _, name := range names {
		for _, l := range all {
			if l.Name != name {
				continue
			}
			link := Link{Index: l.Index}
			addresses, err := r.Addresses(l.Index)
			if err != nil {
				return nil, err
			}
			for _, a := range addresses {
				link.Addresses = append(link.Addresses, Address{Prefix: a.Prefix, Local: a.Local, Peer: a.Peer, Broadcast: a.Broadcast, Flags: a.Flags & keptFlags})
			}
			found[name] = link
		}
	}
	return found, nil
}

// keptFlags are the IFA_F_ bits that somebody has set: NODAD, MANAGETEMPADDR,
// NOPREFIXROUTE and MCAUTOJOIN (linux/if_addr.h). The others tell of a state.
const keptFlags = 0x02 | 0x100 | 0x200 | 0x400
