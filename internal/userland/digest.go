package userland

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
)

func runMD5(p *Proc) error    { return p.digest(md5.New) }
func runSHA1(p *Proc) error   { return p.digest(sha1.New) }
func runSHA256(p *Proc) error { return p.digest(sha256.New) }
func runSHA512(p *Proc) error { return p.digest(sha512.New) }

// digest prints or, with -c, checks the digests of files.
func (p *Proc) digest(algorithm func() hash.Hash) error {
	check := p.Bool("check", "c", "check the digests that are listed in the files")
	quiet := p.Bool("quiet", "q", "with -c: only report what failed")
	status := p.Bool("status", "s", "with -c: print nothing, only answer with the status")
	p.Bool("warn", "w", "accepted; malformed lines are always told")
	p.Bool("text", "t", "accepted; files are always read as they are")
	p.Bool("binary", "b", "accepted; files are always read as they are")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	p.eachFile(names, func(name string, r io.Reader) error {
		if *check {
			return p.checkDigests(r, algorithm, *quiet, *status)
		}
		sum, err := sumOf(r, algorithm)
		if err == nil {
			fmt.Fprintf(p.Out, "%s  %s\n", sum, name)
		}
		return err
	})
	return nil
}

func sumOf(r io.Reader, algorithm func() hash.Hash) (string, error) {
	h := algorithm()
	_, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), err
}

func (p *Proc) checkDigests(list io.Reader, algorithm func() hash.Hash, quiet, silent bool) error {
	failed := 0
	err := eachLine(list, func(line string) error {
		want, name, ok := strings.Cut(line, "  ")
		if !ok {
			want, name, ok = strings.Cut(line, " *")
		}
		if !ok {
			return fmt.Errorf("not a line of digest and name: %q", line)
		}
		return p.withFile(name, func(name string, r io.Reader) error {
			sum, err := sumOf(r, algorithm)
			switch {
			case err != nil:
				return err
			case !strings.EqualFold(sum, want):
				failed++
				if !silent {
					fmt.Fprintf(p.Out, "%s: FAILED\n", name)
				}
			case !quiet && !silent:
				fmt.Fprintf(p.Out, "%s: OK\n", name)
			}
			return nil
		})
	})
	if err == nil && failed > 0 && silent {
		return exitStatus(1)
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d digests did not match", failed)
	}
	return err
}

func runBase64(p *Proc) error {
	decode := p.Bool("decode", "d", "decode")
	wrap := p.Int("wrap", "w", 76, "break lines after `N` characters, 0 for never")
	names, err := p.Parse(0, 1)
	if err != nil {
		return err
	}
	p.eachFile(names, func(_ string, r io.Reader) error {
		if *decode {
			_, err := io.Copy(p.Out, base64.NewDecoder(base64.StdEncoding, r))
			return err
		}
		data, err := io.ReadAll(r)
		text := base64.StdEncoding.EncodeToString(data)
		for *wrap > 0 && len(text) > *wrap {
			fmt.Fprintln(p.Out, text[:*wrap])
			text = text[*wrap:]
		}
		if text != "" {
			fmt.Fprintln(p.Out, text)
		}
		return err
	})
	return nil
}

func runHexdump(p *Proc) error {
	p.Bool("canonical", "C", "bytes in hexadecimal beside their text (always on)")
	length := p.String("length", "n", "", "show the first `N` bytes only")
	skip := p.String("skip", "s", "0", "skip `N` bytes")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	from, err := parseSize(*skip)
	if err != nil {
		return Usagef("invalid number %q", *skip)
	}
	p.eachFile(names, func(_ string, r io.Reader) error {
		if _, err := io.CopyN(io.Discard, r, from); err != nil {
			return notEOF(err)
		}
		if *length != "" {
			n, err := parseSize(*length)
			if err != nil {
				return err
			}
			r = io.LimitReader(r, n)
		}
		return p.dump(r, from)
	})
	return nil
}

// dump prints 16 bytes a line; lines that repeat the one before are shown as a star.
func (p *Proc) dump(r io.Reader, offset int64) error {
	var last []byte
	starred := false
	for {
		line := make([]byte, 16)
		n, err := io.ReadFull(r, line)
		line = line[:n]
		if n > 0 && bytes.Equal(line, last) {
			if !starred {
				fmt.Fprintln(p.Out, "*")
			}
			starred = true
		} else if n > 0 {
			starred = false
			fmt.Fprintln(p.Out, dumpLine(offset, line))
		}
		last = line
		offset += int64(n)
		if err != nil {
			fmt.Fprintf(p.Out, "%08x\n", offset)
			if err == io.ErrUnexpectedEOF {
				err = nil
			}
			return notEOF(err)
		}
	}
}

func dumpLine(offset int64, line []byte) string {
	text := []byte("|")
	hexes := ""
	for i := range 16 {
		if i%8 == 0 {
			hexes += " "
		}
		if i >= len(line) {
			hexes += "   "
			continue
		}
		hexes += fmt.Sprintf("%02x ", line[i])
		if line[i] >= ' ' && line[i] < 0x7f {
			text = append(text, line[i])
		} else {
			text = append(text, '.')
		}
	}
	return fmt.Sprintf("%08x %s %s|", offset, hexes, text)
}

func runCmp(p *Proc) error {
	silent := p.Bool("silent", "s", "print nothing, only answer with the status")
	list := p.Bool("verbose", "l", "print every byte that differs: its number, and both in octal")
	names, err := p.Parse(2, 2)
	if err != nil {
		return err
	}
	var readers [2]*bufio.Reader
	size := int64(math.MaxInt64) // of the shorter one
	for i, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return exitWith(p, 2, err)
		}
		defer f.Close()
		readers[i] = bufio.NewReader(f)
		if info, err := f.Stat(); err == nil {
			size = min(size, info.Size())
		}
	}
	same := error(nil)
	for offset, line := 1, 1; ; offset++ {
		a, errA := readers[0].ReadByte()
		b, errB := readers[1].ReadByte()
		switch {
		case errA == io.EOF && errB == io.EOF:
			return same
		case errA != nil || errB != nil:
			if !*silent {
				short := names[0]
				if errA == nil {
					short = names[1]
				}
				fmt.Fprintf(p.Stderr, "cmp: EOF on %s after byte %d\n", short, offset-1)
			}
			return exitStatus(1)
		case a != b && *list:
			fmt.Fprintf(p.Out, "%*d %3o %3o\n", len(strconv.FormatInt(size, 10)), offset, a, b)
			same = exitStatus(1)
		case a != b:
			if !*silent {
				fmt.Fprintf(p.Out, "%s %s differ: char %d, line %d\n", names[0], names[1], offset, line)
			}
			return exitStatus(1)
		case a == '\n':
			line++
		}
	}
}
