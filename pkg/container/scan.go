package container

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/internal/sys"
)

// ids lists the directories of containers, whole or not.
func (s *Store) ids() ([]string, error) {
	var ids []string
	for _, dir := range []string{s.kept(""), s.fleeting("")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("container store: %w", err)
		}
		for _, e := range entries {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// List returns the records of all containers, without their Specs, the newest
// first. Containers that come and go meanwhile may or may not be there; a record
// that cannot be read is left out and named in the error, beside the others.
func (s *Store) List() ([]Record, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var out []Record
	var failures []error
	for _, id := range ids {
		r, err := s.load(id)
		switch {
		case err == nil:
			out = append(out, r)
		case !errors.Is(err, ErrNotFound):
			failures = append(failures, err)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Created.After(out[j].Created) })
	return out, errors.Join(failures...)
}

// Found is a container as its files describe it.
type Found struct {
	Record Record
	State  State
}

// Scan reads all containers in one pass, the newest first, as List does. incomplete says that there are directories without
// a record, which are being made or were left by a crash: see Sweep.
func (s *Store) Scan() (found []*Found, incomplete bool, err error) {
	var dirs []scanned
	for _, parent := range []string{s.kept(""), s.fleeting("")} {
		f, err := os.Open(parent)
		if err != nil {
			return nil, false, fmt.Errorf("container store: %w", err)
		}
		defer f.Close()
		ids, err := f.Readdirnames(-1)
		if err != nil {
			return nil, false, fmt.Errorf("container store: %w", err)
		}
		fd := int(f.Fd())
		for _, id := range ids {
			dirs = append(dirs, scanned{fd, parent, id})
		}
	}
	all, errs := readAll(dirs)
	var failures []error
	for i, err := range errs {
		switch {
		case err == nil:
			found = append(found, all[i])
		case errors.Is(err, fs.ErrNotExist):
			incomplete = true
		default:
			failures = append(failures, err)
		}
	}
	slices.SortFunc(found, func(a, b *Found) int {
		return cmp.Or(b.Record.Created.Compare(a.Record.Created), strings.Compare(a.Record.ID, b.Record.ID))
	})
	return found, incomplete, errors.Join(failures...)
}

// scanned is the directory of a container, and that which it lies in: from there it is a short way for the kernel.
type scanned struct {
	parent   int // a descriptor
	path, id string
}

// readAll reads what is in the directories of containers, several at a time. For each there is one
// or an error.
func readAll(dirs []scanned) ([]*Found, []error) {
	found, errs := make([]*Found, len(dirs)), make([]error, len(dirs))
	const portion = 64 // fewer are not worth a goroutine
	var next atomic.Int64
	read := func() {
		buf := make([]byte, 0, 4096)
		for {
			end := int(next.Add(portion))
			if end-portion >= len(dirs) {
				return
			}
			for i := end - portion; i < min(end, len(dirs)); i++ {
				found[i], errs[i] = dirs[i].read(buf)
			}
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 4, (len(dirs)+portion-1)/portion) - 1 {
		others.Go(read)
	}
	read()
	others.Wait()
	return found, errs
}

// read reads record and state, with buf for what is in the files.
func (d scanned) read(buf []byte) (*Found, error) {
	f := new(Found)
	if err := d.readJSON(recordFile, &f.Record, buf); err != nil {
		return f, err
	}
	if f.Record.Version > recordVersion { // the path is put together for the error alone
		return f, checkVersion(filepath.Join(d.path, d.id, recordFile), &f.Record)
	}
	return f, d.readJSON(stateFile, &f.State, buf)
}

func (d scanned) readJSON(name string, v any, buf []byte) error {
	data, err := sys.ReadFileAt(d.parent, d.path, d.id+"/"+name, buf, maxFile)
	if err != nil {
		return err
	}
	if err := quickjson.Decode(string(data), v); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(d.path, d.id, name), err)
	}
	return nil
}
