package snapshottest

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/containr/containr/pkg/snapshot"
)

// stamp is the time of all entries: whole seconds, as archives in the wild have them.
var stamp = time.Unix(1700000000, 0)

// entry is one entry of a layer.
type entry struct {
	tar.Header
	data string
}

func dir(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}}
}

func file(name, data string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}, data: data}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func hardLink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}}
}

func fifo(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o622}}
}

func device(name string, major, minor int64) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Mode: 0o660, Devmajor: major, Devminor: minor}}
}

// gone says that a lower layer's name is removed, opaque that all that lower layers have in a directory is.
func gone(dir, name string) entry { return file(dir+".wh."+name, "") }
func opaque(dir string) entry     { return file(dir+"/.wh..wh..opq", "") }

func (e entry) owned(uid, gid int) entry {
	e.Uid, e.Gid = uid, gid
	return e
}

func (e entry) mode(mode int64) entry {
	e.Mode = mode
	return e
}

func (e entry) xattr(name, value string) entry {
	records := map[string]string{"SCHILY.xattr." + name: value}
	for k, v := range e.PAXRecords {
		records[k] = v
	}
	e.PAXRecords = records
	return e
}

// layer writes an archive.
func layer(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		h.Format = tar.FormatPAX
		h.ModTime = stamp
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("header of %q: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatalf("data of %q: %v", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// unpack makes a chain of archives, the base first.
func unpack(t testing.TB, s *snapshot.Store, archives ...[]byte) snapshot.ChainID {
	t.Helper()
	var layers []snapshot.Layer
	for _, a := range archives {
		layers = append(layers, snapshot.Layer{DiffID: digest.FromBytes(a), Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(a)), nil
		}})
	}
	chain, err := s.Unpack(t.Context(), layers, nil)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}
