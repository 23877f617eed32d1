// Package security holds the tests of what must stay true when an image, or a program
// in a container, is hostile: run as root against the engine as it is, with its
// defaults, on the kernel that is there. A test is named after what must stay true;
// tests about a single package are beside it.
//
// # Theory of operation
//
// Each test builds what an attacker would: a root file system, an image, a set of
// flags. It lets the engine run it, and then looks at the kernel and at what lies
// outside, not at what the engine says. Where an attack is a race, a second process
// loses it again and again for a bounded number of rounds.
package security
