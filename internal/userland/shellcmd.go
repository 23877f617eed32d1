package userland

import "github.com/containr/containr/internal/userland/shell"

func runShell(p *Proc) error {
	return exitStatus(shell.Main(p.Args, p.Stdin, p.stdout, p.Stderr))
}

// runTest answers as the shell's own test does; called by the name "[" it wants the closing bracket.
func runTest(p *Proc) error { return p.builtin() }

// runPrintf prints as the shell's own printf does.
func runPrintf(p *Proc) error { return p.builtin() }

// builtin runs the shell's built-in command of the same name, so that both give the same answers.
func (p *Proc) builtin() error {
	words := append([]string{p.Command.Name}, p.Args...)
	return exitStatus(shell.Builtin(words, p.Stdin, p.stdout, p.Stderr))
}
