package main

import (
	"archive/tar"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

// chunks writes to a tar stream in frames.
type chunks struct{ out *sender }

func (c chunks) Write(b []byte) (int, error) {
	for piece := range slices.Chunk(b, 256<<10) {
		if err := c.out.frame(wire.Tar, piece); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// sendFiles sends the files and directories that are there, under their names without the first slash.
func sendFiles(paths []string, out *sender) error {
	if len(paths) == 0 {
		return nil
	}
	w := tar.NewWriter(chunks{out})
	for _, path := range paths {
		if _, err := os.Lstat(path); os.IsNotExist(err) {
			continue
		}
		err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() && !d.Type().IsRegular() {
				return err
			}
			return sendFile(w, p, d)
		})
		if err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.frame(wire.Tar, nil)
}

func sendFile(w *tar.Writer, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	head, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	head.Name = strings.TrimPrefix(path, "/")
	if d.IsDir() {
		return w.WriteHeader(head)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head.Size = int64(len(content))
	if err := w.WriteHeader(head); err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}
