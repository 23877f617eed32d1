// Package conformance runs the validation suite of the Open Container Initiative, opencontainers/runtime-tools,
// against containr-runtime and its peers, and compares. It is a test; there is nothing in it to import.
//
// # Theory of operation
//
// The suite is some sixty programs, one for each topic. Each makes bundles, calls the runtime that the environment
// variable RUNTIME names, looks at what came of it, mostly from inside, by a program called runtimetest, and prints
// TAP, the Test Anything Protocol.
//
//	suite/         a module of its own, as the suite wants old versions of its libraries: its go.mod lists the programs
//	               as tools, and nothing of them is copied
//	build_test.go  builds them into the test cache
//	run_test.go    runs one of them in namespaces of its own, so that neither it nor what it tests touches the machine
//	tap_test.go    reads what it printed
//	table_test.go  the table of docs/conformance.md: written with -table, otherwise compared with
//	notes_test.go  what is to be known of single programs: some are wrong, and some cannot work on every machine
//
// Everybody fails some of it: the suite is older than the specification in places, asks for controllers that a kernel
// may lack, and has mistakes. So the measure is not a number but the peers: containr-runtime must pass what any of them
// passes, here and now, and what the table says that it passes.
package conformance
