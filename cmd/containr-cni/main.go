// Command containr-cni lets other engines use containr's networks. It is installed under the names of the plugins that it is: bridge,
// macvlan, host-local, portmap, firewall, multus; and as netavark.
//
//	CNI_COMMAND=ADD CNI_CONTAINERID=... CNI_NETNS=... CNI_IFNAME=eth0 CNI_PATH=... bridge < CONFIG
//	netavark setup NETNS < OPTIONS
package main

import (
	"os"

	"github.com/containr/containr/internal/cniplugin"
)

func main() { os.Exit(cniplugin.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
