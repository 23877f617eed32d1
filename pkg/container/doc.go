// Package container turns what a user asked for into what a runtime must do,
// and keeps the record of it.
//
// # Theory of operation
//
// Four values, each made from the one before:
//
//	Config      what was asked            flags, API bodies, compose files
//	specs.Spec  what OCI says that means  Spec(config, image config, inputs)
//	Record      id, Config, Spec          written once, never changed
//	State       created, running, ...     small, replaced atomically
//
// The first half of the package is pure. A grammar file (env.go, mounts.go,
// limits.go, ...) turns one flag's text into one field of a Config and is the
// only place that knows that flag's syntax. Defaults fills in everything the
// user left open, in one function, so that nobody has to look for a default
// anywhere else. Validate refuses a Config that contradicts itself or the
// machine. Spec is then a table of contents: process, root, mounts,
// namespaces, resources, security; each section is a function from Config to
// its part of the specification. What has to be read from the machine or from
// the image (the user database, device numbers, the kernel's abilities) comes
// in as data, in Inputs, so that the same command gives the same
// specification everywhere and golden files can hold it.
//
// The second half touches the disk: Store owns the directory of containers,
// hands out names (one process wins a name, all others get ErrNameInUse),
// writes records and replaces states.
//
// What docker does is the measure for every default and every grammar. Where
// this package departs from it on purpose, the function's comment says so
// under the word "Departure".
package container
