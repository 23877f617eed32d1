// Command mkbase packs the built-in image from the user land that was built for each architecture:
//
//	mkbase OUTPUT ARCH=BINARY...
//
// The Makefile runs it. OUTPUT is left alone if it already has the same content, so that nothing is built again that
// depends on it.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/baseimage/pack"
)

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkbase:", err)
		os.Exit(1)
	}
}

func run(stdout io.Writer, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: mkbase OUTPUT ARCH=BINARY")
	}
	var platforms []pack.Platform
	for _, arg := range args[1:] {
		arch, file, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q: want ARCH=BINARY", arg)
		}
		binary, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		platforms = append(platforms, pack.Platform{Arch: arch, Binary: binary})
	}
	var archive bytes.Buffer
	digest, err := pack.Archive(&archive, baseimage.Name, platforms)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: %d bytes, %s\n", baseimage.Name, archive.Len(), digest)
	return replace(args[0], archive.Bytes())
}

// replace writes a file under another name first: a build that is interrupted leaves the old one.
func replace(file string, content []byte) error {
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, content) {
		return nil
	}
	next := file + ".new"
	if err := os.WriteFile(next, content, 0o644); err != nil {
		return err
	}
	return os.Rename(next, file)
}
