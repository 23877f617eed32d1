package sys

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Unplug takes one end of a cable down, and reports whether there was one: no switch leads to it from now on, nor has an entry
// for who was there. It goes with the network namespace of the other end. Deleting it would be the same, but for the time: to free
// a device the kernel waits, in the caller, until every processor has done what it was told to do later, 15 ms and more.
// For the devices of a namespace that ends it does so by itself.
func (r *Route) Unplug(name string) (bool, error) {
	body := attribute(linkMessage(0, 0, unix.IFF_UP), unix.IFLA_IFNAME, append([]byte(name), 0))
	err := r.ask(unix.RTM_NEWLINK, unix.NLM_F_ACK, body, nil)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil, err
}
