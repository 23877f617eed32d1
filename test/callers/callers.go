// Package callers runs containr-runtime under the programs that call it: containerd, docker, podman and buildah, as
// Debian has them. It is a test; there is nothing in it to import.
//
// # Theory of operation
//
// An OCI runtime is right when those who call it do not notice it. So each test starts a caller as its users do, with
// containr-runtime in the place of runc, and types what users type: run, exec, logs, stop, kill, pause, stats, a
// terminal, a health check, a build. What comes back must be what the same caller says with runc.
//
// A daemon makes links, mounts, firewall rules and cgroups. So the tests run in namespaces of their own (main_test.go):
// the test binary starts itself once more as a child of process 1 of a PID namespace, with mounts, network, IPC and
// host name of its own; /run is empty. Sockets, state and images are in temporary directories. What a test left
// behind is looked for in the end, there; and when process 1 ends, everything goes with it.
//
// The machine's own cgroups are version 1 where these tests are developed. guest_test.go runs them once more in a
// virtual machine with version 2; there podman runs too, which asks for a capability that a machine of continuous
// integration may not have.
//
// Images go both ways too: docker, podman, buildah and crane push to and pull from a registry that is containr, and its
// digests are theirs (exchange_test.go).
//
// The images are made from containr's built-in one (image_test.go): no registry is asked.
package callers
