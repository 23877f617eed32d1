// Package tty connects the user's terminal with a container's.
//
// # Theory of operation
//
// A container with a terminal (-t) has a pseudo terminal of its own: the
// container holds one end, the slave, and we hold the other, the master. The line
// discipline that turns Ctrl-C into a signal and echoes what is typed is the
// container's. So the user's own terminal must do none of that meanwhile: it is
// put in raw mode, and a Session carries bytes in both directions, tells the
// container about changes of the window's size, and looks for the detach keys.
// Ctrl-C and Ctrl-Z are bytes like any others on this way.
//
// A terminal left in raw mode is a broken shell. Therefore everything that ends a
// Session passes through rawMode.restore: the end of the container, an error, a
// panic in one of our goroutines, a signal that ends us, and the stop signal, on
// which the terminal is given back before we stop and taken again when we
// continue. Only SIGKILL leaves no time for it.
//
// Without -t a container gets our own standard output and error directly, so
// that nothing is copied: what it writes has reached its destination when it
// exits, byte for byte, the two kept apart, and a reader that closes its end
// gives the container its SIGPIPE. There is one exception. A stream that is a
// terminal is replaced by a pipe, whose other end we copy (Streams): a container
// without -t must find no terminal, as programs behave differently on one, and
// must not get hold of the user's, whose settings it could change. The container
// may do with the other files what their mode allows and, with the rights of
// root, may open them anew through /proc/self/fd: redirect the output of an
// untrusted container into a pipe (| cat >file) if the file must only grow.
package tty
