package userland

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// terminalFlags are the settings of a terminal that stty knows, of the many that there are (termios(3)).
func terminalFlags(t *unix.Termios) []struct {
	name string
	word *uint32
	bit  uint32
} {
	return []struct {
		name string
		word *uint32
		bit  uint32
	}{
		{"brkint", &t.Iflag, unix.BRKINT}, {"icrnl", &t.Iflag, unix.ICRNL}, {"inlcr", &t.Iflag, unix.INLCR}, {"igncr", &t.Iflag, unix.IGNCR},
		{"istrip", &t.Iflag, unix.ISTRIP}, {"ixon", &t.Iflag, unix.IXON}, {"ixany", &t.Iflag, unix.IXANY}, {"iutf8", &t.Iflag, unix.IUTF8},
		{"opost", &t.Oflag, unix.OPOST}, {"onlcr", &t.Oflag, unix.ONLCR},
		{"isig", &t.Lflag, unix.ISIG}, {"icanon", &t.Lflag, unix.ICANON}, {"iexten", &t.Lflag, unix.IEXTEN}, {"echo", &t.Lflag, unix.ECHO},
		{"echoe", &t.Lflag, unix.ECHOE}, {"echok", &t.Lflag, unix.ECHOK}, {"echonl", &t.Lflag, unix.ECHONL}, {"tostop", &t.Lflag, unix.TOSTOP},
	}
}

// terminalModes are words that stand for several settings.
var terminalModes = map[string]string{
	"raw":    "-brkint -icrnl -istrip -ixon -opost -isig -icanon -iexten",
	"-raw":   "cooked",
	"cooked": "brkint icrnl ixon opost isig icanon iexten",
	"sane":   "brkint icrnl -inlcr -igncr ixon -ixany opost onlcr isig icanon iexten echo echoe echok -echonl -tostop",
}

// runStty shows or changes the settings of the terminal on standard input.
func runStty(p *Proc) error {
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	if len(p.Args) == 0 || p.Args[0] == "-a" {
		return p.showTerminal(t)
	}
	if p.Args[0] == "size" {
		size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err == nil {
			fmt.Fprintln(p.Out, size.Row, size.Col)
		}
		return err
	}
	rows, err := setTerminal(t, p.Args)
	if err != nil {
		return err
	}
	if rows != nil {
		if err := unix.IoctlSetWinsize(0, unix.TIOCSWINSZ, rows); err != nil {
			return os.NewSyscallError("TIOCSWINSZ", err)
		}
	}
	return os.NewSyscallError("TCSETSW", unix.IoctlSetTermios(0, unix.TCSETSW, t))
}

func (p *Proc) showTerminal(t *unix.Termios) error {
	if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		fmt.Fprintf(p.Out, "rows %d; columns %d;\n", size.Row, size.Col)
	}
	var words []string
	for _, f := range terminalFlags(t) {
		if *f.word&f.bit == 0 {
			f.name = "-" + f.name
		}
		words = append(words, f.name)
	}
	fmt.Fprintln(p.Out, strings.Join(words, " "))
	return nil
}

// setTerminal changes t as the words say, and returns the new size if they have one.
func setTerminal(t *unix.Termios, words []string) (*unix.Winsize, error) {
	var size *unix.Winsize
	for i := 0; i < len(words); i++ {
		word := words[i]
		if mode, ok := terminalModes[word]; ok {
			if _, err := setTerminal(t, strings.Fields(mode)); err != nil {
				return nil, err
			}
			continue
		}
		if word == "rows" || word == "cols" || word == "columns" {
			if i+1 == len(words) {
				return nil, Usagef("%s needs a number", word)
			}
			i++
			n := uint16(0)
			if _, err := fmt.Sscanf(words[i], "%d", &n); err != nil {
				return nil, Usagef("%s %s: not a number", word, words[i])
			}
			if size == nil {
				if size, _ = unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); size == nil {
					size = &unix.Winsize{}
				}
			}
			if word == "rows" {
				size.Row = n
			} else {
				size.Col = n
			}
			continue
		}
		if !setFlag(t, word) {
			return nil, Usagef("unknown setting %q", word)
		}
	}
	return size, nil
}

func setFlag(t *unix.Termios, word string) bool {
	name, off := strings.CutPrefix(word, "-")
	for _, f := range terminalFlags(t) {
		if f.name == name {
			*f.word |= f.bit
			if off {
				*f.word &^= f.bit
			}
			return true
		}
	}
	return false
}
