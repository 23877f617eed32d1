// Package distribution runs the conformance suite of the OCI distribution specification against the registry that
// `containr registry serve` is. It is a test; there is nothing in it to import.
//
// # Theory of operation
//
// The suite is a program of the specification's own repository. It pushes, pulls, lists and deletes all kinds of
// content, and writes what came of it to a file. It is in the module in the directory suite, whose go.mod names it as a
// tool: nothing of it is copied. The test builds it into the test cache, starts a registry over an empty store on the
// loopback interface, and wants every test passed in each of the four categories: pull, push, discovery, management.
package distribution
