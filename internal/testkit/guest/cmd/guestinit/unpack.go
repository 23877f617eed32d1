package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

// receiveJob waits for the host's job and unpacks the files that come with it.
func receiveJob(port io.Reader) (wire.Job, error) {
	files := &pieces{port: port}
	if err := unpackCpio(files, "/"); err != nil {
		return wire.Job{}, fmt.Errorf("unpack the job's files: %w", err)
	}
	if _, err := io.Copy(io.Discard, files); err != nil {
		return wire.Job{}, err
	}
	kind, payload, err := wire.Read(port)
	if err != nil {
		return wire.Job{}, err
	}
	if kind != wire.Run {
		return wire.Job{}, fmt.Errorf("host frame %q in the place of the job", kind)
	}
	return wire.DecodeJob(payload)
}

// pieces reads the archive that comes in frames.
type pieces struct {
	port io.Reader
	rest []byte
	end  bool
}

func (p *pieces) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.end {
			return 0, io.EOF
		}
		kind, payload, err := wire.Read(p.port)
		if err != nil {
			return 0, err
		}
		if kind != wire.Files {
			return 0, fmt.Errorf("host frame %q in the place of files", kind)
		}
		p.rest, p.end = payload, len(payload) == 0
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// entry is one file of a cpio archive in the format "newc".
type entry struct {
	name           string
	mode, uid, gid uint32
	size           int64
	dev            uint64
}

// unpackCpio writes the files of the archive below root. What is there already is replaced, but directories stay.
func unpackCpio(r io.Reader, root string) error {
	for {
		e, err := readHeader(r)
		if err != nil {
			return err
		}
		if e.name == "TRAILER!!!" {
			return nil
		}
		content := io.LimitReader(r, e.size)
		if err := e.write(filepath.Join(root, e.name), content); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		if err := discard(r, (4-e.size%4)%4); err != nil {
			return err
		}
	}
}

func discard(r io.Reader, n int64) error {
	_, err := io.CopyN(io.Discard, r, n)
	return err
}

// The fields of a header, each of eight hexadecimal digits after a magic number of six.
const (
	headerLen  = 110
	fieldMode  = 1
	fieldUID   = 2
	fieldGID   = 3
	fieldSize  = 6
	fieldMajor = 9
	fieldMinor = 10
	fieldName  = 11
)

func readHeader(r io.Reader) (entry, error) {
	var head [headerLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return entry{}, err
	}
	var fields [13]uint64
	for i := range fields {
		n, err := strconv.ParseUint(string(head[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			return entry{}, fmt.Errorf("cpio header: %w", err)
		}
		fields[i] = n
	}
	name := make([]byte, fields[fieldName])
	if _, err := io.ReadFull(r, name); err != nil {
		return entry{}, err
	}
	if err := discard(r, (4-(headerLen+int64(len(name)))%4)%4); err != nil {
		return entry{}, err
	}
	return entry{name: strings.TrimSuffix(string(name), "\x00"), mode: uint32(fields[fieldMode]),
		uid: uint32(fields[fieldUID]), gid: uint32(fields[fieldGID]), size: int64(fields[fieldSize]),
		dev: unix.Mkdev(uint32(fields[fieldMajor]), uint32(fields[fieldMinor]))}, nil
}

// write makes the file. Its owner comes before its mode: chown takes set-user-ID away.
func (e entry) write(path string, content io.Reader) error {
	dir := e.mode&unix.S_IFMT == unix.S_IFDIR
	if !dir {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if err := e.create(path, content); err != nil && !(dir && os.IsExist(err)) {
		return err
	}
	if err := os.Lchown(path, int(e.uid), int(e.gid)); err != nil {
		return err
	}
	if e.mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	return unix.Chmod(path, e.mode&0o7777)
}

func (e entry) create(path string, content io.Reader) error {
	switch e.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return os.Mkdir(path, 0o755)
	case unix.S_IFLNK:
		target, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		return os.Symlink(string(target), path)
	case unix.S_IFREG:
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		if end := f.Close(); err == nil {
			err = end
		}
		return err
	}
	return unix.Mknod(path, e.mode, int(e.dev))
}
