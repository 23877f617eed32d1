package cni

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A plugin may refuse to disconnect, such as for a file that is wrong in the same way as when it refused to connect. The
// network namespace is kept then, with its lock, in which all is written that the plugins were told: whoever comes later
// tries again.

const (
	// retryAfter is how long nobody tries again whom nothing has been changed for.
	retryAfter = time.Minute
	// retryPatience is how long plugins may take that are asked beside something else.
	retryPatience = 10 * time.Second
)

// Leftover is a container that is gone, and that plugins have not disconnected yet.
type Leftover struct {
	Container string
	// Netns is the name that its network namespace still has.
	Netns string
	// Networks are those that it is still in, as far as that is known.
	Networks []string
	// Titles are these as users name them: with the prefix, unless netavark makes them, which is said then.
	Titles []string
	// Given: a plugin has connected it with one of these. Then nobody gives up.
	Given bool
	locks []string
	cache string
}

// Leftovers lists them. alive says which containers there are.
func Leftovers(cache string, alive func(id string) bool) ([]Leftover, error) {
	entries, err := os.ReadDir(cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []Leftover
	for _, entry := range entries {
		id := entry.Name()
		if !entry.IsDir() || id == "results" || alive(id) {
			continue
		}
		list = append(list, leftoverAt(cache, id))
	}
	return list, err
}

func leftoverAt(cache, id string) Leftover {
	l := Leftover{Container: id, Netns: filepath.Join(cache, id, "netns"), cache: cache}
	files, _ := os.ReadDir(filepath.Dir(l.Netns)) // one that has just gone has none
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), lockSuffix) {
			continue
		}
		path := filepath.Join(filepath.Dir(l.Netns), f.Name())
		l.locks = append(l.locks, path)
		a, err := readLock(path)
		if err != nil {
			continue
		}
		l.Given = l.Given || a.given()
		if !slices.Contains(l.Networks, a.list.Name) {
			l.Networks = append(l.Networks, a.list.Name)
			title := strings.TrimPrefix(a.title(), "network ")
			if a.Netavark != nil {
				title += " (netavark)"
			}
			l.Titles = append(l.Titles, title)
		}
	}
	return l
}

// readLock reads what plugins were told.
func readLock(path string) (Attachment, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Attachment{}, err
	}
	return readAttachment(string(text))
}

// Due reports whether it may help to try again now: a network's file has been changed since the last time, or it was long ago.
func (l Leftover) Due() bool {
	return len(l.locks) == 0 || slices.ContainsFunc(l.locks, func(path string) bool {
		lock, err := os.Stat(path)
		if err != nil || time.Since(lock.ModTime()) > retryAfter {
			return true
		}
		a, err := readLock(path)
		if err != nil {
			return false
		}
		conf, err := os.Stat(a.File)
		return err == nil && !conf.ModTime().Before(lock.ModTime())
	})
}

// Disconnect has the plugins disconnect what is left, by the files that they were told then, and by those that there are now.
// The last time, final, those count as disconnected that the plugins never connected.
func (l Leftover) Disconnect(final bool) error {
	var failures []error
	for _, path := range l.locks {
		if err := l.disconnect(path, final); err != nil {
			failures = append(failures, err)
		}
	}
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	return unpin(l.Netns)
}

func (l Leftover) disconnect(path string, final bool) error {
	a, err := readLock(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && final: // whoever wrote it was killed before the first plugin
		return remove(path)
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	}
	if !final {
		a.within = retryPatience
	}
	if err = a.delete(); err == nil {
		return nil
	}
	if now, readErr := Read(a.File); readErr == nil && now.List.Name == a.list.Name && !bytes.Equal(now.List.Bytes, a.Config) {
		b := a
		b.list, b.Config = now.List, now.List.Bytes
		if nowErr := b.delete(); nowErr == nil {
			return nil
		}
	}
	if final && !a.given() {
		return remove(path)
	}
	// The time of the last attempt is the lock's.
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}, 0) // it may have gone
	return err
}

// given reports whether a plugin has connected the container: what it printed is kept.
func (a Attachment) given() bool {
	_, err := os.Stat(filepath.Join(a.Cache, "results", a.list.Name+"-"+a.Container+"-"+a.Interface))
	return err == nil
}

// remove removes a file that may be gone.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
