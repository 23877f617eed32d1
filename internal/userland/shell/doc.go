// Package shell is the "sh" of the built-in image: the interpreter of mvdan.cc/sh, made into a shell that behaves as a
// process should.
//
// # Theory of operation
//
// The library parses POSIX shell and much of Bash, expands words, and runs everything that needs no process: variables,
// functions, loops, redirections, its built-in commands. It runs inside one Go process, subshells and background
// commands included, and leaves to its caller what touches the system. This package is that caller. It adds what a
// person, or a container whose first process is a shell, expects of one:
//
//   - programs (exec.go): found by PATH and started with the right streams; a status of 126, 127 or 128+n where POSIX
//     says so; orphans are reaped when the shell is process 1;
//   - calls (calls.go): traps on signals, kill, umask, ulimit, wait that a signal ends, and an exec that really
//     replaces the process. The library asks a handler before each simple command; the handler answers with the words
//     to run in its place, which is how a trap action gets between two commands;
//   - a rewriting of the parsed program (rewrite.go), for what no handler can see: which commands run in the background
//     and what their process id is ($!), where exec may replace the process, and how long a "time" command took;
//   - a terminal (terminal.go): a prompt, line editing, history, completion, Ctrl-C that ends the command and not the
//     shell.
//
// shell.go holds these together: it reads the words of the command line and runs a command (-c), a file, standard input
// or a terminal. Limits of the library stay: there is no job control (fg, bg), only descriptors 0 to 2 can be
// redirected, and text that is given to eval or read by "." is not rewritten.
package shell
