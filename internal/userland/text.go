package userland

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

func runCat(p *Proc) error {
	number := p.Bool("number", "n", "number the lines")
	nonblank := p.Bool("number-nonblank", "b", "number the lines that are not empty")
	squeeze := p.Bool("squeeze-blank", "s", "print several empty lines as one")
	ends := p.Bool("show-ends", "E", "show $ at the end of each line")
	tabs := p.Bool("show-tabs", "T", "show tabs as ^I")
	nonprinting := p.Bool("show-nonprinting", "v", "show control bytes as ^X and M-X")
	everything := p.Bool("show-all", "A", "the same as -vET")
	endsToo := p.Bool("e", "e", "the same as -vE")
	tabsToo := p.Bool("t", "t", "the same as -vT")
	p.Bool("unbuffered", "u", "accepted; output is never held back")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	if *everything {
		*ends, *tabs, *nonprinting = true, true, true
	}
	*ends, *tabs = *ends || *endsToo, *tabs || *tabsToo
	*nonprinting = *nonprinting || *endsToo || *tabsToo
	line, empty := 0, false
	p.eachFile(names, func(_ string, r io.Reader) error {
		if !*number && !*nonblank && !*squeeze && !*ends && !*tabs && !*nonprinting {
			p.Out.Flush()
			_, err := io.Copy(p.stdout, r)
			return err
		}
		return eachLine(r, func(text string) error {
			if *squeeze && empty && text == "" {
				return nil
			}
			empty = text == ""
			if *number && !*nonblank || *nonblank && !empty {
				line++
				fmt.Fprintf(p.Out, "%6d\t", line)
			}
			p.Out.WriteString(visible(text, *tabs, *nonprinting))
			if *ends {
				p.Out.WriteByte('$')
			}
			return p.Out.WriteByte('\n')
		})
	})
	return nil
}

// visible writes the bytes that a terminal would not show.
func visible(text string, tabs, nonprinting bool) string {
	var out strings.Builder
	for _, c := range []byte(text) {
		switch {
		case c == '\t':
			if tabs {
				out.WriteString("^I")
			} else {
				out.WriteByte(c)
			}
		case !nonprinting:
			out.WriteByte(c)
		default:
			if c >= 0x80 {
				out.WriteString("M-")
				c &= 0x7f
			}
			if c < 0x20 || c == 0x7f {
				out.WriteByte('^')
				c ^= 0x40
			}
			out.WriteByte(c)
		}
	}
	return out.String()
}

func runFold(p *Proc) error {
	width := p.Int("width", "w", 80, "lines have at most `N` characters")
	spaces := p.Bool("spaces", "s", "break at blanks")
	p.Bool("bytes", "b", "accepted; characters are never cut in two")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	if *width < 1 {
		return Usagef("invalid width %d", *width)
	}
	p.eachFile(names, func(_ string, r io.Reader) error {
		return eachLine(r, func(line string) error {
			rest := []rune(line)
			for len(rest) > *width {
				at := *width
				if *spaces {
					if blank := strings.LastIndexByte(string(rest[:at]), ' '); blank >= 0 {
						at = len([]rune(string(rest[:at])[:blank])) + 1
					}
				}
				fmt.Fprintln(p.Out, string(rest[:at]))
				rest = rest[at:]
			}
			_, err := fmt.Fprintln(p.Out, string(rest))
			return err
		})
	})
	return nil
}

func runHead(p *Proc) error {
	p.OldNumber("-n")
	lines := p.String("lines", "n", "10", "print the first `N` lines; -N: all but the last N")
	byteCount := p.String("bytes", "c", "", "print the first `N` bytes")
	quiet := p.Bool("quiet", "q", "no headers with names")
	verbose := p.Bool("verbose", "v", "headers also for a single file")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	count := *lines
	if *byteCount != "" {
		count = *byteCount
	}
	n, err := parseSize(strings.TrimPrefix(count, "-"))
	if err != nil {
		return Usagef("invalid number %q", count)
	}
	header := p.headers(*verbose || len(names) > 1 && !*quiet)
	p.eachFile(names, func(name string, r io.Reader) error {
		header(name)
		switch {
		case *byteCount != "" && strings.HasPrefix(count, "-"):
			return p.allButBytes(r, int(n))
		case *byteCount != "":
			_, err := io.CopyN(p.Out, r, n)
			return notEOF(err)
		case strings.HasPrefix(count, "-"):
			return p.allBut(r, int(n))
		}
		return p.firstLines(r, n)
	})
	return nil
}

// headers returns a function that prints "==> name <==" before every file.
func (p *Proc) headers(wanted bool) func(string) {
	first := true
	return func(name string) {
		if !wanted {
			return
		}
		if !first {
			fmt.Fprintln(p.Out)
		}
		first = false
		fmt.Fprintf(p.Out, "==> %s <==\n", name)
	}
}

func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func (p *Proc) firstLines(r io.Reader, n int64) error {
	in := bufio.NewReader(r)
	for range n {
		line, err := in.ReadString('\n')
		p.Out.WriteString(line)
		if err != nil {
			return notEOF(err)
		}
	}
	return nil
}

// allBut prints all lines but the last n.
func (p *Proc) allBut(r io.Reader, n int) error {
	var held []string
	return eachLine(r, func(line string) error {
		held = append(held, line)
		if len(held) > n {
			fmt.Fprintln(p.Out, held[0])
			held = held[1:]
		}
		return nil
	})
}

// allButBytes prints all bytes but the last n.
func (p *Proc) allButBytes(r io.Reader, n int) error {
	in := bufio.NewReaderSize(r, max(n+1, 4096))
	for {
		ahead, err := in.Peek(n + 1)
		if len(ahead) <= n {
			return notEOF(err)
		}
		p.Out.WriteByte(ahead[0])
		in.Discard(1)
	}
}

func runTail(p *Proc) error {
	p.OldNumber("-n")
	lines := p.String("lines", "n", "10", "print the last `N` lines; +N: from line N on")
	byteCount := p.String("bytes", "c", "", "print the last `N` bytes; +N: from byte N on")
	follow := p.Bool("follow", "f", "go on as the file grows")
	upper := p.Bool("retry", "F", "the same, also when the file is replaced")
	quiet := p.Bool("quiet", "q", "no headers with names")
	verbose := p.Bool("verbose", "v", "headers also for a single file")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	count, inBytes := *lines, *byteCount != ""
	if inBytes {
		count = *byteCount
	}
	n, err := parseSize(strings.TrimLeft(count, "+-"))
	if err != nil {
		return Usagef("invalid number %q", count)
	}
	header := p.headers(*verbose || len(names) > 1 && !*quiet)
	last := func(name string, r io.Reader) error {
		header(name)
		return p.lastPart(r, n, inBytes, strings.HasPrefix(count, "+"))
	}
	if !*follow && !*upper {
		p.eachFile(names, last)
		return nil
	}
	files := map[string]*os.File{}
	for _, name := range names {
		f, err := os.Open(name)
		if err == nil {
			files[name] = f
			err = last(name, f)
		}
		if err != nil {
			p.Warn(err)
		}
	}
	p.Out.Flush()
	return p.follow(files, *upper)
}

// lastPart prints the end of r, counted in lines or bytes, from the end or from the start.
func (p *Proc) lastPart(r io.Reader, n int64, inBytes, fromStart bool) error {
	switch {
	case fromStart && inBytes:
		io.CopyN(io.Discard, r, max(0, n-1))
		_, err := io.Copy(p.Out, r)
		return err
	case fromStart:
		in := bufio.NewReader(r)
		for range max(0, n-1) {
			if _, err := in.ReadString('\n'); err != nil {
				return notEOF(err)
			}
		}
		_, err := io.Copy(p.Out, in)
		return err
	}
	if f, ok := r.(*os.File); ok && inBytes {
		if _, err := f.Seek(-n, io.SeekEnd); err == nil {
			_, err := io.Copy(p.Out, r)
			return err
		}
	}
	return p.lastHeld(r, n, inBytes)
}

// lastHeld keeps the end of a stream while it reads it.
func (p *Proc) lastHeld(r io.Reader, n int64, inBytes bool) error {
	in := bufio.NewReader(r)
	var held [][]byte
	total := int64(0)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			held = append(held, line)
			total += int64(len(line))
		}
		for !inBytes && int64(len(held)) > n || inBytes && len(held) > 0 && total-int64(len(held[0])) >= n {
			total -= int64(len(held[0]))
			held = held[1:]
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	text := bytes.Join(held, nil)
	if inBytes && int64(len(text)) > n {
		text = text[int64(len(text))-n:]
	}
	_, err := p.Out.Write(text)
	return err
}

// follow prints what is appended to the files, each from where it has been read to, until a signal ends it. A file that
// was truncated, or with reopen replaced, is read from its start.
func (p *Proc) follow(files map[string]*os.File, reopen bool) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		for name, f := range files {
			if next := replacement(name, f); reopen && next != nil {
				f.Close()
				files[name], f = next, next
			}
			at, seekErr := f.Seek(0, io.SeekCurrent)
			if info, err := f.Stat(); err == nil && seekErr == nil && info.Size() < at {
				f.Seek(0, io.SeekStart)
			}
			io.Copy(p.stdout, f)
		}
		select {
		case s := <-stop:
			return exitStatus(128 + int(s.(syscall.Signal)))
		case <-tick.C:
		}
	}
}

// replacement opens the file that now has the name of f, or returns nil if that is still f.
func replacement(name string, f *os.File) *os.File {
	now, err := os.Stat(name)
	if err != nil {
		return nil
	}
	if old, err := f.Stat(); err != nil || os.SameFile(now, old) {
		return nil
	}
	next, err := os.Open(name)
	if err != nil {
		return nil
	}
	return next
}

// counts are what wc counts.
type counts struct{ lines, words, chars, bytes, longest int64 }

func runWc(p *Proc) error {
	lines := p.Bool("lines", "l", "count newlines")
	words := p.Bool("words", "w", "count words")
	chars := p.Bool("chars", "m", "count characters")
	byteCount := p.Bool("bytes", "c", "count bytes")
	longest := p.Bool("max-line-length", "L", "length of the longest line")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	if !*lines && !*words && !*chars && !*byteCount && !*longest {
		*lines, *words, *byteCount = true, true, true
	}
	width := 7
	if len(names) < 2 && !(*lines && *words && *byteCount) {
		width = 1
	}
	report := func(c counts, name string) {
		var cells []string
		for _, column := range []struct {
			wanted bool
			n      int64
		}{{*lines, c.lines}, {*words, c.words}, {*chars, c.chars}, {*byteCount, c.bytes}, {*longest, c.longest}} {
			if column.wanted {
				cells = append(cells, fmt.Sprintf("%*d", width, column.n))
			}
		}
		if name != "" {
			cells = append(cells, name)
		}
		fmt.Fprintln(p.Out, strings.Join(cells, " "))
	}
	var total counts
	p.eachFile(names, func(name string, r io.Reader) error {
		c, err := count(r)
		if len(names) == 0 {
			name = ""
		}
		report(c, name)
		total = counts{total.lines + c.lines, total.words + c.words, total.chars + c.chars, total.bytes + c.bytes, max(total.longest, c.longest)}
		return err
	})
	if len(names) > 1 {
		report(total, "total")
	}
	return nil
}

func count(r io.Reader) (c counts, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	inWord, column := false, int64(0)
	for {
		char, size, err := in.ReadRune()
		if err != nil {
			c.longest = max(c.longest, column)
			return c, notEOF(err)
		}
		c.bytes += int64(size)
		c.chars++
		column++
		if char == '\n' {
			c.lines++
			c.longest = max(c.longest, column-1)
			column = 0
		}
		space := unicode.IsSpace(char)
		if !space && !inWord {
			c.words++
		}
		inWord = !space
	}
}

func runTee(p *Proc) error {
	appendTo := p.Bool("append", "a", "append to the files")
	ignore := p.Bool("ignore-interrupts", "i", "ignore SIGINT")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	if *ignore {
		signal.Ignore(syscall.SIGINT)
	}
	flag := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if *appendTo {
		flag = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	outs := []io.Writer{p.stdout}
	for _, name := range names {
		f, err := os.OpenFile(name, flag, 0o666)
		if err != nil {
			p.Warn(err)
			continue
		}
		defer f.Close()
		outs = append(outs, f)
	}
	_, err = io.Copy(io.MultiWriter(outs...), p.Stdin)
	return err
}

func runTac(p *Proc) error {
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	p.eachFile(names, func(_ string, r io.Reader) error {
		var lines []string
		err := eachLine(r, func(line string) error { lines = append(lines, line); return nil })
		for _, line := range slices.Backward(lines) {
			fmt.Fprintln(p.Out, line)
		}
		return err
	})
	return nil
}

func runRev(p *Proc) error {
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	p.eachFile(names, func(_ string, r io.Reader) error {
		return eachLine(r, func(line string) error {
			runes := []rune(line)
			slices.Reverse(runes)
			_, err := fmt.Fprintln(p.Out, string(runes))
			return err
		})
	})
	return nil
}

func runNl(p *Proc) error {
	all := p.String("body-numbering", "b", "t", "which lines: a all, t those with text")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	line := 0
	p.eachFile(names, func(_ string, r io.Reader) error {
		return eachLine(r, func(text string) error {
			if text == "" && *all != "a" {
				_, err := fmt.Fprintln(p.Out, "       ")
				return err
			}
			line++
			_, err := fmt.Fprintf(p.Out, "%6d\t%s\n", line, text)
			return err
		})
	})
	return nil
}

func runStrings(p *Proc) error {
	length := p.Int("bytes", "n", 4, "the shortest string to print, of `N` characters")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	p.eachFile(names, func(_ string, r io.Reader) error {
		in, run := bufio.NewReader(r), []byte(nil)
		for {
			c, err := in.ReadByte()
			if err == nil && c < utf8.RuneSelf && strconv.IsPrint(rune(c)) {
				run = append(run, c)
				continue
			}
			if len(run) >= *length {
				fmt.Fprintf(p.Out, "%s\n", run)
			}
			run = run[:0]
			if err != nil {
				return notEOF(err)
			}
		}
	})
	return nil
}
