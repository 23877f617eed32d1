package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

// saved is a machine saved at the moment when its agent had said hello: its memory, some 100 MB, in the cache. There
// is one for each kind of machine; one made of other things than now is replaced.
type saved struct {
	dir string // holds state, index.json
	key string // a digest of all that the machine is made of
}

// savedIndex is index.json.
type savedIndex struct {
	Key      string
	Greeting wire.Greeting
}

// saved returns where the machine is saved, or would be.
func (m machine) saved() (saved, error) {
	cache, err := cacheDir()
	if err != nil {
		return saved{}, err
	}
	name := fmt.Sprintf("%s-%s-%d-%d", m.kernel.Name, m.userland, m.memory, m.cpus)
	if m.root != "" {
		name += "-" + strings.TrimSuffix(filepath.Base(m.root), ".squashfs")
	}
	key, err := m.key()
	return saved{dir: filepath.Join(cache, "saved", name), key: key}, err
}

// key digests the emulator's version, its arguments, and the content of the initramfs. Kernels and disks in the cache
// do not change without their names, but may have been fetched again: their times tell.
func (m machine) key() (string, error) {
	h := sha256.New()
	version, err := output(exec.Command(m.qemu, "--version"))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	fmt.Fprintln(h, version, m.args())
	for _, path := range []string{m.files.kernel(), m.root} {
		if fi, err := os.Stat(path); err == nil {
			fmt.Fprintln(h, path, fi.Size(), fi.ModTime().UnixNano())
		}
	}
	if _, err := io.Copy(h, io.NewSectionReader(m.initrd, 0, 1<<62)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// load returns the greeting of the saved machine; false if there is none, or another one.
func (s saved) load() (wire.Greeting, bool) {
	var index savedIndex
	b, err := os.ReadFile(filepath.Join(s.dir, "index.json"))
	if err != nil || json.Unmarshal(b, &index) != nil || index.Key != s.key {
		return wire.Greeting{}, false
	}
	return index.Greeting, true
}

func (s saved) state() string { return filepath.Join(s.dir, "state") }

// shellQuote makes one word of s for the shell that QEMU starts.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// up returns a machine that waits for its job. It is resumed from the saved one; if there is none, or with fresh, a
// machine is booted and saved first.
func (m machine) up(ctx context.Context, fresh bool, log io.Writer) (*vm, error) {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	s, err := m.saved()
	if err != nil {
		return nil, err
	}
	if greeting, ok := s.load(); ok && !fresh {
		v, err := m.resume(ctx, s, greeting)
		if err == nil || ctx.Err() != nil {
			return v, err
		}
		fmt.Fprintf(log, "guest %s: booting, since the saved machine does not resume: %v\n", m.kernel.Name, err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return nil, err
	}
	greeting, err := m.boot(ctx, s)
	if err != nil {
		return nil, err
	}
	return m.resume(ctx, s, greeting)
}

// boot starts the machine from nothing, saves it, and ends it.
func (m machine) boot(ctx context.Context, s saved) (wire.Greeting, error) {
	v, err := m.launch()
	if err != nil {
		return wire.Greeting{}, err
	}
	stop := context.AfterFunc(ctx, v.kill)
	defer stop()
	if err = v.hello(); err == nil {
		err = v.save(s)
	}
	v.end()
	if err != nil {
		return v.greeting, fmt.Errorf("%w\nconsole:\n%s", errors.Join(err, ctx.Err()), v.console)
	}
	return v.greeting, nil
}

// save stops the machine and writes it to the cache, where it appears by a rename.
func (v *vm) save(s saved) error {
	parent := filepath.Dir(s.dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	tmp := filepath.Join(parent, ".save") // one for all: a test that was killed leaves it for the next, which has the lock
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o755)); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := v.mon.do("stop", nil); err != nil {
		return err
	}
	state := "exec:cat >" + shellQuote(filepath.Join(tmp, "state"))
	if err := v.mon.do("migrate", map[string]any{"uri": state}); err != nil {
		return err
	}
	if err := v.mon.untilMigrated(); err != nil {
		return err
	}
	b, err := json.Marshal(savedIndex{s.key, v.greeting})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "index.json"), b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, s.dir)
}

// resume starts the saved machine.
func (m machine) resume(ctx context.Context, s saved, greeting wire.Greeting) (*vm, error) {
	v, err := m.launch("-incoming", "defer")
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, v.kill)
	defer stop()
	err = v.mon.do("migrate-incoming", map[string]any{"uri": "exec:cat " + shellQuote(s.state())})
	if err == nil {
		err = v.mon.untilMigrated()
	}
	if err == nil {
		err = v.mon.do("cont", nil)
	}
	if err != nil {
		v.end()
		return nil, fmt.Errorf("%w: %w\n%s", errNoAnswer, errors.Join(err, ctx.Err()), v.console)
	}
	v.greeting = greeting
	return v, nil
}
