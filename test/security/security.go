// Package security holds the tests of what must stay true when an image, or a program
// in a container, is hostile: run as root against the engine as it is, with its
// defaults, on the kernel that is there. A test is named after what must stay true;
// tests about a single package are beside it.
package security
