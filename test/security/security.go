// Package security holds the tests of what must stay true when an image, or a program
// in a container, is hostile. Tests about a single package are beside it.
//
// # Theory of operation
//
// Each test runs the engine as it is, with its defaults, as root and on the kernel that
// is there. Inside, the probe tries what must fail and reports what the kernel said;
// outside, the test looks at what changed. A test is named after what must stay true;
// where an attack has a number, it is in the comment.
package security
