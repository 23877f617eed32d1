// Package untrusted holds the bounds of what comes from outside that more than one
// package keeps, each in its own place: so that they are the same.
//
// # Theory of operation
//
// An image says itself how much of it there is, and a few kilobytes can be made that
// expand to more than any disk holds. So each package counts what passes through it, and
// stops at a bound. Most bounds are one package's own, and stand there. Those that a layer
// meets on its way from one package to the next stand here; if they differed, the larger
// one would never be reached, and what one package has let in the other would refuse.
package untrusted

// LayerBytes is how many bytes a layer may have uncompressed: the length of its archive,
// and the sum of the sizes of its files. The largest layers that people make hold models
// and games, and stay well below.
const LayerBytes = 256 << 30
