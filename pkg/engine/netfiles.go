package engine

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/networks"
)

// renewFiles has a container's files of /etc say what is true when its networks have changed. What the container has changed itself
// stays as it is.
func (e *Engine) renewFiles(record *container.Record, before, after []container.Endpoint) error {
	if err := e.renewResolvConf(record, after); err != nil {
		return err
	}
	return e.renewHosts(*record, before, after)
}

// followHost has a container that is about to be started anew ask those for names that the host asks now.
func (e *Engine) followHost(ctx context.Context, record container.Record) (container.Record, error) {
	endpoints := slices.Clone(record.Endpoints)
	forwardNames(endpoints, record.Config.DNS, e.isBridged)
	if record.ResolvConf == "" || record.ResolvConf == resolvConf(record.Config.DNS, endpoints) {
		return record, nil
	}
	containers, err := e.containers()
	if err != nil {
		return record, err
	}
	return containers.Change(ctx, record.ID, func(c *container.Record) error {
		forwardNames(c.Endpoints, c.Config.DNS, e.isBridged)
		return e.renewResolvConf(c, c.Endpoints)
	})
}

// isBridged: the host is in the network, and can answer there.
func (e *Engine) isBridged(endpoint container.Endpoint) bool {
	store, err := e.networks()
	if err != nil {
		return false
	}
	n, err := store.Get(endpoint.Network)
	return err == nil && n.Driver == networks.DriverBridge
}

// renewHosts changes what /etc/hosts says of the container's own addresses, and of the host's.
func (e *Engine) renewHosts(record container.Record, before, after []container.Endpoint) error {
	path := e.ownFile(record, "/etc/hosts")
	if path == "" || !record.Config.Namespaces.OwnNetwork() {
		return nil
	}
	machine, err := e.machine()
	if err != nil {
		return err
	}
	names := []string{container.Hostname(record.Config, record.ID, machine)}
	_, err = safepath.Rewrite(path, hostsOf(record.Config, names, before), hostsOf(record.Config, names, after))
	warnOfFile(path, err)
	return nil
}

// warnOfFile tells that a file which the container can change, too, could not be renewed. Nothing else fails for it, or the container could keep its networks from
// being changed.
func warnOfFile(path string, err error) {
	if err != nil {
		slog.Warn("it stays as it is: "+err.Error(), "file", path)
	}
}

// ownFile is the file of containr's that a container has in a place, empty if it has one of the user's there, or none.
func (e *Engine) ownFile(record container.Record, target string) string {
	i := slices.IndexFunc(record.Spec.Mounts, func(m specs.Mount) bool { return m.Destination == target })
	if i < 0 {
		return ""
	}
	source := record.Spec.Mounts[i].Source
	if filepath.Base(source) != filepath.Base(target) || filepath.Base(filepath.Dir(source)) != record.ID || !strings.HasPrefix(source, e.root+"/") && !strings.HasPrefix(source, e.run+"/") {
		return ""
	}
	return source
}

// hostsOf is /etc/hosts of a container with a network of its own. In no network there is no address of the host's.
func hostsOf(c container.Config, names []string, endpoints []container.Endpoint) []byte {
	extra := c.ExtraHosts
	if len(endpoints) == 0 {
		extra = slices.DeleteFunc(slices.Clone(extra), func(h container.Host) bool { return h.IP == container.HostGateway })
	}
	extra, _ = hostsWithGateway(extra, endpoints, container.UserNetwork{}) // which fails in no network alone
	return container.HostsFile(nil, names, addressesOf(endpoints), extra)
}

// addressesOf are the addresses in all networks.
func addressesOf(endpoints []container.Endpoint) (list []netip.Addr) {
	for _, endpoint := range endpoints {
		for _, s := range endpoint.Prefixes {
			list = append(list, netip.MustParsePrefix(s).Addr())
		}
	}
	return list
}
