// Package layering keeps the shape of the code: which package may import which, what may be unsafe, how long a file may
// be. It is a test; there is nothing in it to import.
//
// # Theory of operation
//
// Parts of the code are to be understood without their neighbours, and that holds only as long as nobody imports a
// neighbour. So the order of the packages is written down once, in order.txt, in the dialect of Go's own
// go/build/deps_test.go: "a < b" says that b may import a, and with a all that is below it. The test asks the go command
// for the real imports and reports each that the order does not allow. A package that the order does not name fails the
// test: its place has to be decided. A name in the order without a package is fine, it is a place that was decided
// early.
//
// The other rules are of the same kind, things that are simple to check and that erode when nobody does: the libraries
// that the lower layers may use, the files in which unsafe is allowed, planners without input and output, the length of
// files, the doc comment that every package opens with.
package layering
