package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/tty"
)

// stop is one stop of the tour: what is to be seen, a command, and what to have noticed.
type stop struct {
	title, before string
	// command is the line after "containr", as splitWords reads it; status is how it ends.
	command string
	status  int
	after   string
	// rootOnly says that an ordinary user cannot do it.
	rootOnly bool
}

// tourStops are in the order in which one thing explains the next. Everything that is made is removed by the end.
var tourStops = []stop{
	{"A program in a container",
		"A container is a process like any other, that sees less of the machine. This one comes with containr,\nso it needs no network: the image is called base.",
		"run --rm base echo hello", 0,
		"The word came from a program that ran in its own world, and is gone. --rm took all of it away.", false},
	{"It sees itself alone",
		"A container has its own process numbers. Look at who runs in there.",
		"run --rm base ps", 0,
		"Its first process is number 1. On the machine it has another number: the same process, counted twice.", false},
	{"It has its own files",
		"The image is a stack of layers. The container sees them as its root directory, and writes to a layer of its own.",
		"run --rm base sh -c 'echo mine > /etc/motd; cat /etc/motd; ls /'", 0,
		"What it wrote is gone with it. The image is as it was, and so is your machine's /etc/motd.", false},
	{"It has its own name and network",
		"Here it has the host name that we choose, and with --network none no network card but the loopback.",
		"run --rm --hostname lighthouse --network none base sh -c 'hostname; ls /sys/class/net'", 0,
		"", false},
	{"It gets as much as you say",
		"Limits are the kernel's. This program wants 64 MB, and we give it 16.",
		"run --rm --memory 16m --memory-swap 16m base sh -c 'head -c 64000000 /dev/zero | sort > /dev/null'", -1,
		"When memory ran out the kernel ended a process in the container, and nothing outside of it.", true},
	{"What is done, before it is done",
		"containr writes down each system call with its reason, and then executes the list. Put explain in front\nof a run to read it. Here are its chapters; without --zoom you get every call.",
		"explain --zoom chapters run --rm base echo hello", 0,
		"The list is the program: what you read is what is executed.", false},
	{"What a flag changes",
		"Two lists can be compared. What does --read-only do?",
		"explain --diff 'run base true' 'run --read-only base true'", 0,
		"Lines with - are only in the first, those with + only in the second.", false},
	{"When something is wrong",
		"Errors say which step failed, and what to do. This program does not exist.",
		"run --rm base helo", 127,
		"", false},
	{"And what that means",
		"The last line named a code. Every kind of error has one.",
		"explain CTR-5006", 0,
		"", false},
	{"Containers that stay",
		"Without --rm a container stays when its program has ended: its files and its exit status.",
		"run --name souvenir base sh -c 'echo kept > /note'", 0,
		"", false},
	{"Taking them away",
		"It is removed by its name.",
		"rm souvenir", 0,
		"", false},
	{"What this machine can do",
		"Last: doctor looks at your machine. These are the things that are limited or missing, and what mends them.",
		"doctor --quiet", -1,
		"", false},
}

const tourEnd = `
That was the tour. From here:
  containr run -it --rm base sh     a shell to play in
  containr help                     all commands
  containr explain run base true    the whole list of system calls
`

func (p *Program) tourCommand() *cobra.Command {
	var noWait bool
	cmd := &cobra.Command{
		Use:     "tour [FLAGS]",
		Short:   "Show in ten minutes what containers are, with real ones",
		GroupID: groupSystem,
		Args:    exactArgs(0),
		Long: "Show in ten minutes what containers are. Each stop says what is to be seen, shows a command, and runs\n" +
			"it when you press Enter. Everything is real, and nothing of it is left at the end.",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !noWait && !tty.IsTerminal(p.In) {
				return &usageError{text: "tour: standard input is no terminal", hint: "--no-wait runs every command without asking"}
			}
			t := &tour{Program: p, ctx: cmd.Context(), noWait: noWait, root: os.Geteuid() == 0}
			return t.walk(tourStops)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "run every command without asking")
	return cmd
}

// tour is one walk through the stops.
type tour struct {
	*Program
	ctx    context.Context
	noWait bool
	root   bool
	lines  chan string // what the person types, closed at the end of input
}

// walk goes from stop to stop. The error says which command did not end as it should.
func (t *tour) walk(stops []stop) error {
	if !t.noWait {
		t.lines = make(chan string)
		go readLines(t.In, t.lines)
	}
	var failures []error
	for i, s := range stops {
		t.say("\n%d of %d: %s\n\n%s\n\n  $ containr %s\n", i+1, len(stops), s.title, s.before, s.command)
		if s.rootOnly && !t.root {
			t.say("\n(This one needs root; it is left out.)\n")
			continue
		}
		answer, err := t.ask()
		switch {
		case err != nil:
			return err
		case answer == "q":
			t.say("Good bye. Nothing is left of what was shown.\n")
			return t.leave(failures)
		case answer == "s":
			continue
		}
		if err := t.show(s); err != nil {
			failures = append(failures, err)
		}
		if s.after != "" {
			t.say("\n%s\n", s.after)
		}
	}
	t.say("%s", tourEnd)
	return errors.Join(failures...)
}

// leave removes what a stop has made that is left in the middle.
func (t *tour) leave(failures []error) error {
	e, err := t.engine()
	if err != nil {
		return errors.Join(append(failures, err)...)
	}
	names, err := e.ContainerNames()
	for _, name := range names {
		if name == "souvenir" {
			failures = append(failures, t.show(stop{title: "the end", command: "rm souvenir"}))
		}
	}
	return errors.Join(append(failures, err)...)
}

func (t *tour) say(format string, args ...any) { fmt.Fprintf(t.Out, format, args...) }

// ask waits for the person: "" is go on, "s" to leave this one out, "q" to end.
func (t *tour) ask() (string, error) {
	if t.noWait {
		t.say("\n")
		return "", nil
	}
	t.awaitCatching()
	for {
		t.say("\n[Enter: run it, s: skip it, q: leave the tour] ")
		select {
		case <-t.ctx.Done():
			return "", t.ctx.Err()
		case line, ok := <-t.lines:
			if !ok { // Ctrl-D
				t.say("\n")
				return "q", nil
			}
			if line = strings.ToLower(strings.TrimSpace(line)); line == "" || line == "s" || line == "q" {
				return line, nil
			}
		}
	}
}

func readLines(r io.Reader, lines chan<- string) {
	defer close(lines)
	for in := bufio.NewScanner(r); in.Scan(); {
		lines <- in.Text()
	}
}

// show runs the command of a stop, by this same program.
func (t *tour) show(s stop) error {
	words, err := splitWords(s.command)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if t.global.root != "" {
		words = append([]string{"--root", t.global.root}, words...)
	}
	cmd := exec.Command(self, words...)
	cmd.Stdout, cmd.Stderr = t.Out, t.Err
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case t.ctx.Err() != nil:
		return t.ctx.Err()
	case err != nil && !errors.As(err, &exit):
		return err
	}
	if status := cmd.ProcessState.ExitCode(); s.status >= 0 && status != s.status {
		return fmt.Errorf("tour: %s: containr %s ended with %d, and should with %d", s.title, s.command, status, s.status)
	}
	return nil
}
