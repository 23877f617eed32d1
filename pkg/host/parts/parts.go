// Package parts finds out which parts the kernel has, without loading any.
//
// # Theory of operation
//
// A part is a module that is loaded, one that is built in or can be loaded, by the lists in /lib/modules, or an option of
// the kernel's configuration, which is in one of three places or nowhere. If none of these says anything, it is unknown.
//
// It is a package of its own, beside package host, as it reads compressed files and is asked rarely: the OCI runtime
// does without.
package parts
