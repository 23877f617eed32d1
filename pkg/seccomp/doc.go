// Package seccomp compiles an OCI seccomp policy to the classic BPF program
// that the kernel runs before each system call.
//
// It needs no cgo and no libseccomp, reads no file and makes no system call:
// the same policy gives the same program on every machine.
//
//	program, err := seccomp.Compile(policy, seccomp.AMD64)
//
// # Vocabulary
//
// A policy is what the OCI runtime specification calls linux.seccomp: a default
// action and rules. A rule names system calls, an action, and perhaps
// conditions on their arguments. An ABI ([Arch]) is a table of system call
// numbers; a kernel serves several at once (a 64-bit x86 kernel also runs 32-bit
// programs, whose read is number 3 and not 0). An outcome is what a policy says
// about one number of one ABI: an action, or a list of rules with conditions to
// ask in order. A span is a run of neighbouring numbers with the same outcome.
//
// # Theory of operation
//
// Classic BPF has no loops and no tables, only "load a word of the call",
// "compare and skip forward by at most 255 instructions" and "return". A filter
// that asks for one number after the other, as most compilers make it, needs
// hundreds of instructions; the kernel verifies, translates and, for its bitmap
// of always-allowed calls, emulates it once for every number, so its length is
// paid at each container start. This package makes a search tree instead.
// Compile goes through these steps, one file each:
//
//  1. policy.go checks the policy and writes each rule into a table per ABI:
//     number to outcome.
//  2. args.go turns each list of conditional rules into a small graph of tests
//     on 32-bit words, leaving out every test whose answer is already known
//     from the tests before it.
//  3. tree.go cuts each table into spans and lays a balanced binary tree of
//     comparisons over them.
//  4. emit.go writes the program from its end to its beginning. Jumps go only
//     forward, so every target has its place before the jump to it is written,
//     and no patching is needed. Returns are shared while they are in reach.
//
// The shape of each filter:
//
//	load the audit architecture
//	native?  load the number; x32 bit set? -> tree of x32; tree of amd64
//	386?     load the number; tree of 386
//	kill
//
// # What a policy means
//
// The meaning is that of libseccomp, and thus of runc and crun; the tests compare
// the verdicts. Where its manual is silent:
//
//   - A rule without conditions decides its system calls alone: conditional
//     rules for the same call are dropped, and of two such rules the first
//     counts.
//   - Rules with conditions are alternatives. Conditions within one rule must
//     all hold; but if one rule has two conditions on the same argument, each
//     condition counts as a rule of its own (the rule of runc and crun, older than
//     conjunctions in libseccomp).
//   - If rules with different actions match the same call, the more specific
//     wins: tests of the higher argument before the lower, equality before
//     ranges, narrow ranges before wide ones. It does not matter in which order
//     the policy lists them.
//   - A rule whose action is the default action is left out.
//   - On an ABI with 32-bit arguments only the low halves of values count.
//   - 32-bit x86 can reach socket and System V IPC calls also by socketcall and
//     ipc. An unconditional rule covers both ways. A condition cannot be
//     checked behind the pointer there, so a conditional rule covers the second
//     way only if it forbids: this is stricter than libseccomp, which would allow
//     the whole sub-call.
//   - Calls newer than every call that the policy names get ENOSYS rather than
//     the default action, if the default action does not let calls through:
//     programs then fall back to older calls, as they would on an older kernel.
//     runc does the same.
//   - Names that no architecture has are skipped and listed in
//     [Program.Unknown]: the policy may be written for a newer kernel.
//   - A system call of an ABI that the policy does not list kills the thread.
package seccomp
