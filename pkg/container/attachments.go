package container

import "strings"

// CNIPrefix begins the names of networks that plugins of the Container Network Interface make.
const CNIPrefix = "cni:"

// Attachment is how plugins connect a container with a network.
type Attachment struct {
	// Plug has the network's name, with the prefix, and the interface.
	Plug
	// NetworkID is that of the network if it is one of containr's that netavark makes. Addresses are then those that it has.
	NetworkID string `json:"networkID,omitempty"`
	// Conf is the directory of networks, Bin are those of plugins: the container goes by them at each start.
	Conf string   `json:"conf"`
	Bin  []string `json:"bin"`
	// Addresses are those that it is to have, if Plug has none; some may have prefixes.
	Addresses []string `json:"addresses,omitempty"`
	// Gateways are where it is to send what is for no network that it is in.
	Gateways []string `json:"gateways,omitempty"`
	// Ports lead to it beside those that are published.
	Ports []Port `json:"ports,omitempty"`
	// Limits are ingress rate and burst, egress rate and burst.
	Limits [4]uint64 `json:"limits,omitzero"`
	// Args are further arguments of the plugins, as KEY=VALUE.
	Args []string `json:"args,omitempty"`
}

// CNINetwork is the name of a plugins' network without the prefix; ok is false if it is another network.
func (p Plug) CNINetwork() (name string, ok bool) { return strings.CutPrefix(p.Network, CNIPrefix) }
