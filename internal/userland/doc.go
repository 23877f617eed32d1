// Package userland is the user land of the built-in image: about a hundred Unix commands in pure Go, linked into one
// static program that acts as the command whose name it was started by.
//
// # Theory of operation
//
// A container needs something to run. The built-in image must work with no registry and no network, on every
// architecture that containr is built for, and people learn from what it prints: so "id", "ls -l", "ps", "mount" and
// "ip" here ask the kernel and the files of the container, and never guess.
//
// A command is a row of a table (table.go): its name, its usage line, what it does in one sentence, and a function of
// the form func(*Proc) error. Proc (proc.go) is one run of one command: its words, its three streams, its flags. A
// command first declares its flags, then calls Parse, then works; as flags are declared once and with their help, the
// answer to --help is always complete. A command that works through a list of operands reports a failed one with Warn
// and goes on, as Unix commands do; an error that it returns ends it. Statuses are the usual ones: 0, 1 for failure,
// 2 for wrong usage, 126 and 127 where one command starts another.
//
// The commands follow POSIX in what they read and print, with the few GNU and BSD flags that people use without
// thinking (cp -a, sort -h, grep -r). They keep to the subset that is stated by their --help: an unknown flag is
// refused, never ignored.
//
// Start-up time matters, since the image is what benchmarks run: nothing in this package runs before main, tables are
// laid out by the linker, and flag sets, databases and regular expressions are made by the command that needs them.
//
// The files group commands as a manual would: files (files, copy, perm), listing (ls, stat, find), text (text,
// columns, grep, sed), data (digest, archive), who and what (identity, machine, disk), processes (process, control),
// and network. The shell is its own package, userland/shell.
package userland
