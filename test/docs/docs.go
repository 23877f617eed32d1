// Package docs keeps the documents true. It is a test; there is nothing in it to import.
//
// # Theory of operation
//
// A document that nobody runs is wrong after a month. So the test does with the README and the book what a reader would
// do:
//
//   - A block that begins with ```sh is executed, as root, by sh -eu, with bin/ first in PATH. /var/lib and /run are
//     replaced by private directories, so that what a page shows are the usual paths, and nothing stays. A page has a network
//     namespace of its own, in which the default network is made as on the reader's machine. The blocks of
//     a page are executed in their order, in one working directory, and find the files of those before.
//   - If a block that begins with ```text follows, with nothing but blank lines between, it must be what the commands
//     printed. A line of three dots stands for any lines, three dots in a line for any text.
//   - "```sh needs PROGRAM" is left out, with that reason, where PROGRAM is not installed.
//   - Every other kind of block is for the eye only: ```console for commands that are not executed here, because they
//     run this test, or need the reader's own files.
//
// Of all documents it is checked that links lead to something, that files, packages, tests and make targets that they
// name exist, and that every package has its line in ARCHITECTURE.md.
package docs
