// Package hosts knows where registries are: which mirrors a name has, what is rewritten
// or blocked, which certificates to trust and to show.
//
// # Theory of operation
//
// [Load] reads files, [Config.Endpoints] turns a name into the places that serve it, in
// the order to try them. Nothing here connects to anything.
//
// There is one file of containr's own, registries.toml, of the user and of the system.
// What other tools are configured with counts as well, so that a site writes it down
// once: registries.conf (version 2) of podman and its kin, and directories certs.d with
// one directory for each registry, in which docker has certificates and containerd
// hosts.toml. Of all entries whose prefix a name has, the longest prefix wins; of equal
// ones that of the file that was read first, in the order of [Options].
//
//	[[registry]]
//	prefix = "docker.io"                    # or "docker.io/library", "*.example.com"
//	location = "registry.example/hub"       # where its repositories really are
//	insecure = false                        # true: plain HTTP, or certificates of nobody
//	blocked = false                         # true: no pull, no push
//	ca = "/etc/ssl/site.pem"                # trusted besides the system's authorities
//	client-cert = "me.pem"                  # relative names are beside the file
//	client-key = "me.key"
//
//	[[registry.mirror]]                     # tried first, one after the other
//	location = "mirror.example:5000/hub"
//	pull = "digest"                         # all, digest or tag
//	insecure = false                        # and ca, client-cert, client-key
//
// An unknown key in registries.toml is an error: who misspells "insecure" must hear of it.
// In the files of others it is none, as they have keys that are not for us.
package hosts
