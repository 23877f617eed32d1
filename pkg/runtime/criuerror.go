package runtime

import (
	"errors"
	"slices"
	"strings"

	"github.com/containr/containr/pkg/host"
)

var (
	// errUntrusted means that a checkpoint could be somebody else's.
	errUntrusted = errors.New("what CRIU reads and writes decides about root's files and processes")
	// errNoCheckpoint means that a directory holds no checkpoint.
	errNoCheckpoint = errors.New("no checkpoint")
)

// CRIUError is a criu that has not done what it was asked for.
type CRIUError struct {
	// Action is "dump" or "restore", and Reason how it ended.
	Action, Reason string
	// Late tells that it had not ended in the time that it was given, and was killed.
	Late bool
	// Said are the last errors that it wrote, and Log is the file with all it wrote,
	// empty if it is gone.
	Said []string
	Log  string
}

// Error says all of it on one line.
func (e *CRIUError) Error() string {
	text := "criu " + e.Action + ": " + e.Reason
	if len(e.Said) > 0 {
		text += ": " + strings.Join(e.Said, "; ")
	}
	if e.Log != "" {
		text += " (all it said is in " + e.Log + ")"
	}
	return text
}

// criuHints say what to do about words of criu's.
var criuHints = [...]struct{ words, text string }{
	{"rt vDSO area", "this CRIU is older than the kernel: install a newer one"},
	{"[pidfd]", "the program holds a pidfd, as Go programs do that wait for a child: that takes CRIU 4.1"},
	{"Unsupported proto 262", "the program has a socket of Multipath TCP, as Go programs have that listen: GODEBUG=multipathtcp=0 in their environment does without"},
	{"Locking network failed", "CRIU keeps the container's network still with iptables: install iptables"},
	{"iptables-restore", "CRIU keeps the container's network still with iptables: install iptables"},
	{"Diag module missing", "load the kernel's modules unix_diag, inet_diag, tcp_diag, udp_diag, netlink_diag and af_packet_diag"},
	{"Connected TCP socket", "the container has a TCP connection: carry it over with --tcp-established, at both ends"},
	{"In-flight connection", "the container has a TCP connection that is being made: leave it out with --tcp-skip-in-flight"},
	{"ext-unix-sk", "the container talks to a Unix socket outside: --ext-unix-sk leaves that end alone"},
	{"without peer", "the container talks to a Unix socket in another network namespace, which CRIU does not find: end that connection"},
	{"Dangling connection", "the container has a connection to a Unix socket that nobody has accepted yet: try again"},
	{"External socket", "the container talks to a Unix socket outside: --ext-unix-sk leaves that end alone"},
	{"file-locks", "the container holds file locks: carry them over with --file-locks, at both ends"},
	{"shell-job", "the container uses the terminal that it was started from: --shell-job, at both ends"},
	{"dangling tty", "the container uses the terminal that it was started from: --shell-job, at both ends"},
	{"link-remap", "the container has deleted files open: --link-remap gives them a name for the time being"},
	{"No mapping for", "the bundle's config.json has not the mounts that the container had: restore with the same bundle"},
	{"mapping for", "the bundle's config.json has not the mounts that the container had: restore with the same bundle"},
	{"has bad mode", "standard input, output and error of restore have to be of the kind that the container had: a file for a file"},
	{"inventory", "that is no complete checkpoint: make it anew"},
	{"Unexpected EOF", "the checkpoint is damaged: make it anew"},
	{"agic doesn't match", "the checkpoint is damaged: make it anew"},
	{"unpack", "the checkpoint is damaged: make it anew"},
}

// lateHint is about a criu that was killed.
const lateHint = "if it only needs more time, as for much memory and a slow disk, give it more with --criu-timeout; a container that was " +
	"to be frozen goes on, but a network that CRIU had locked may stay so"

// criuHint says what to do about an error on the way to criu, and of it, or "".
func criuHint(err error) string {
	switch {
	case errors.Is(err, host.ErrNoCRIU):
		return "install CRIU (Debian package criu), or name the program with --criu; pause and resume stop a container for a while without it"
	case errors.Is(err, errUntrusted):
		return "use a directory that belongs to root, and that only root may write to (chmod go-w)"
	case errors.Is(err, errNoCheckpoint):
		return "name the directory that checkpoint --image-path has written; one of --pre-dump alone is no checkpoint"
	}
	var e *CRIUError
	if !errors.As(err, &e) {
		return ""
	}
	if e.Late {
		return lateHint
	}
	for _, h := range criuHints {
		if slices.ContainsFunc(e.Said, func(s string) bool { return strings.Contains(s, h.words) }) {
			return h.text
		}
	}
	return ""
}
