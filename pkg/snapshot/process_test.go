package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// The test binary plays other processes when this variable names their role.
const roleVariable = "SNAPSHOT_TEST_ROLE"

var roles = map[string]func(args []string) error{
	"unpack":   unpackRole,
	"hang":     hangRole,
	"swap":     swapRole,
	"rootless": rootlessRole,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is this test binary in another role.
func process(t testing.TB, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// unpackRole unpacks the archives in files into a store, and prints how many
// layers it did itself.
func unpackRole(args []string) error {
	s, err := Open(args[0], Options{Rootless: os.Geteuid() != 0})
	if err != nil {
		return err
	}
	var archives [][]byte
	for _, name := range args[1:] {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		archives = append(archives, data)
	}
	done := make(chan int, len(archives))
	_, err = s.Unpack(context.Background(), layers(archives...), func(_ int, stage Stage, _ int64) {
		if stage == StageDone {
			done <- 1
		}
	})
	fmt.Println(len(done))
	return err
}

// hangRole begins to unpack a layer that never ends, and says so.
func hangRole(args []string) error {
	s, err := Open(args[0], Options{Rootless: os.Geteuid() != 0})
	if err != nil {
		return err
	}
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	said := false
	all := layers(data)
	all[0].Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(data[:len(data)-2048]), readerFunc(func([]byte) (int, error) {
			if !said {
				fmt.Println("extracting")
				said = true
			}
			testkit.WaitToBeKilled()
			return 0, nil
		}))), nil
	}
	_, err = s.Unpack(context.Background(), all, nil)
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// write puts archives into files and returns their names.
func write(t testing.TB, archives ...[]byte) []string {
	t.Helper()
	base := t.TempDir()
	var names []string
	for i, a := range archives {
		name := fmt.Sprintf("%s/%d.tar", base, i)
		if err := os.WriteFile(name, a, 0o644); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// someLayers makes n layers of some files each.
func someLayers(t testing.TB, n int) [][]byte {
	var all [][]byte
	for i := range n {
		d := fmt.Sprintf("dir%d", i)
		entries := []entry{own(dir(".", 0o755)), ownDir(d)}
		for j := range 50 {
			entries = append(entries, own(reg(fmt.Sprintf("%s/file%d", d, j), strings.Repeat("x", j*100))))
		}
		all = append(all, archive(t, entries...))
	}
	return all
}

// Processes that unpack the same layers at the same time do each layer once.
func TestProcessesShareTheWork(t *testing.T) {
	s := open(t, Options{Rootless: os.Geteuid() != 0})
	files := write(t, someLayers(t, 6)...)
	var running []*exec.Cmd
	var outputs []*bytes.Buffer
	for range 3 {
		cmd := process(t, "unpack", append([]string{s.dir}, files...)...)
		out := &bytes.Buffer{}
		cmd.Stdout = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running, outputs = append(running, cmd), append(outputs, out)
	}
	total := 0
	for i, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		n := 0
		fmt.Sscan(outputs[i].String(), &n)
		total += n
	}
	if total != len(files) {
		t.Errorf("%d layers were extracted, want %d", total, len(files))
	}
	if all, err := s.List(); err != nil || len(all) != len(files) {
		t.Errorf("List() = %d snapshots, %v, want %d", len(all), err, len(files))
	}
	checkNothingStaged(t, s)
}

func checkNothingStaged(t testing.TB, s *Store) {
	t.Helper()
	if left, _ := os.ReadDir(filepath.Join(s.dir, stagingDir)); len(left) > 0 {
		t.Errorf("left in staging: %v", left)
	}
}

// A killed process leaves nothing visible; what it left is collected, but not
// while it lives.
func TestKilledProcess(t *testing.T) {
	s := open(t, Options{Rootless: os.Geteuid() != 0})
	archives := someLayers(t, 1)
	cmd := process(t, "hang", s.dir, write(t, archives...)[0])
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	staging := filepath.Join(s.dir, stagingDir)
	if _, err := s.GC(t.Context(), func(ChainID) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if live, _ := os.ReadDir(staging); len(live) == 0 {
		t.Error("GC removed the work of a living process")
	}
	cmd.Process.Kill()
	cmd.Wait()
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("List() = %v, %v after a killed unpack", all, err)
	}
	if left, _ := os.ReadDir(staging); len(left) == 0 {
		t.Error("the killed process left nothing: this test tests nothing")
	}
	if _, err := s.GC(t.Context(), func(ChainID) bool { return false }); err != nil {
		t.Fatal(err)
	}
	checkNothingStaged(t, s)
	unpack(t, s, archives...) // the lock died with its holder
}

// GC keeps what is wanted with all below it, and removes the rest.
func TestGC(t *testing.T) {
	s := open(t, Options{Rootless: os.Geteuid() != 0})
	all := someLayers(t, 4)
	long := unpack(t, s, all[0], all[1], all[2])
	other := unpack(t, s, all[0], all[3])
	chains := ChainIDs([]digest.Digest{digest.FromBytes(all[0]), digest.FromBytes(all[1]), digest.FromBytes(all[2])})
	if chains[2] != long {
		t.Fatalf("Unpack returned %s, want %s", long, chains[2])
	}
	removed, err := s.GC(t.Context(), func(c ChainID) bool { return c == long })
	if err != nil || !slices.Equal(removed, []ChainID{other}) {
		t.Errorf("GC removed %v, %v, want %v", removed, err, other)
	}
	for _, c := range chains {
		if !s.Has(c) {
			t.Errorf("%s is gone", c)
		}
	}
	if err := s.Remove(t.Context(), chains[1]); !errors.Is(err, ErrInUse) {
		t.Errorf("Remove of a parent: %v, want %v", err, ErrInUse)
	}
	if err := s.Remove(t.Context(), other); !errors.Is(err, ErrNotFound) {
		t.Errorf("Remove of what is gone: %v, want %v", err, ErrNotFound)
	}
	if err := s.Remove(t.Context(), long); err != nil || s.Has(long) {
		t.Errorf("Remove: %v, Has: %v", err, s.Has(long))
	}
	if removed, err = s.GC(t.Context(), func(ChainID) bool { return false }); err != nil || len(removed) != 2 {
		t.Errorf("GC removed %v, %v, want the two that were left", removed, err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, shortDir)); len(left) > 0 {
		t.Errorf("short names are left: %v", left)
	}
}

// What an Unpack under way builds on is not collected.
func TestGCDuringUnpack(t *testing.T) {
	s := open(t, Options{Rootless: os.Geteuid() != 0})
	all := someLayers(t, 3)
	base := unpack(t, s, all[0])
	unrelated := unpack(t, s, all[2])
	second := layers(all[0], all[1])
	opened := second[1].Open
	second[1].Open = func(ctx context.Context) (io.ReadCloser, error) {
		removed, err := s.GC(ctx, func(ChainID) bool { return false })
		if err != nil || !slices.Equal(removed, []ChainID{unrelated}) {
			t.Errorf("GC during Unpack removed %v, %v, want only %v", removed, err, unrelated)
		}
		if err := s.Remove(ctx, base); !errors.Is(err, ErrInUse) {
			t.Errorf("Remove during Unpack: %v, want %v", err, ErrInUse)
		}
		return opened(ctx)
	}
	if _, err := s.Unpack(t.Context(), second, nil); err != nil {
		t.Fatal(err)
	}
}

// After a reboot, what was not flushed counts as missing and is unpacked
// again; what was flushed stays.
func TestReboot(t *testing.T) {
	s := open(t, Options{Rootless: os.Geteuid() != 0})
	all := someLayers(t, 2)
	chain := unpack(t, s, all...)
	for _, want := range []int{2, 0} {
		if n, err := s.Sync(t.Context()); n != want || err != nil {
			t.Fatalf("Sync = %d, %v, want %d", n, err, want)
		}
	}
	reboot(t, s)
	if !s.Has(chain) {
		t.Error("a flushed snapshot is gone after a reboot")
	}
	if _, err := s.GC(t.Context(), func(ChainID) bool { return false }); err != nil {
		t.Fatal(err)
	}
	chain = unpack(t, s, all...)
	reboot(t, s)
	if s.Has(chain) {
		t.Error("a snapshot that was never flushed is trusted after a reboot")
	}
	if _, err := s.View(t.Context(), chain); !errors.Is(err, ErrNotFound) {
		t.Errorf("View: %v, want %v", err, ErrNotFound)
	}
	if unpack(t, s, all...); !s.Has(chain) {
		t.Error("unpacking again did not help")
	}
	checkNothingStaged(t, s)
}

// reboot makes all snapshots look as if made in an earlier boot.
func reboot(t *testing.T, s *Store) {
	t.Helper()
	metas, _ := filepath.Glob(s.dir + "/*/*/" + metaFile)
	for _, name := range metas {
		info, err := readInfo(filepath.Dir(name))
		if err != nil {
			t.Fatal(err)
		}
		if info.UnsyncedBoot != "" {
			info.UnsyncedBoot = "earlier"
		}
		data, _ := json.Marshal(info)
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// swapRole puts a symbolic link to canary in the place of directories that are
// being extracted, and back, until its input ends.
func swapRole(args []string) error {
	store, canary := args[0], args[1]
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	fmt.Println("ready")
	swaps := 0
	for {
		select {
		case <-ended:
			fmt.Println(swaps)
			return nil
		default:
		}
		dirs, _ := filepath.Glob(store + "/staging/*/layer/fs/victim")
		for _, dir := range dirs {
			if os.Rename(dir, dir+".moved") != nil {
				continue
			}
			os.Symlink(canary, dir)
			swaps++
			os.Remove(dir)
			os.Rename(dir+".moved", dir)
		}
	}
}

// A process that swaps a directory for a symbolic link while it is being
// filled does not get anything outside changed.
func TestRacingSwap(t *testing.T) {
	needRoot(t)
	canary := t.TempDir() + "/canary"
	entries := []entry{dir("victim", 0o777)}
	for i := range 150 { // more than are remembered
		sub := fmt.Sprintf("victim/sub%d", i)
		if err := os.MkdirAll(strings.Replace(sub, "victim", canary, 1), 0o755); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, dir(sub, 0o777), reg(sub+"/f", "pwned"), symlink(sub+"/l", "pwned"),
			fifo(sub+"/p"), whiteout(sub+"/.wh.gone"), hardlink(sub+"/h", sub+"/f"), reg(sub+"/f", "again"))
	}
	before := fingerprintOf(t, canary)
	s := open(t, Options{})
	cmd := process(t, "swap", s.dir, canary)
	stop, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	said.ReadString('\n')
	a := archive(t, entries...)
	good, bad := 0, 0
	for deadline := time.Now().Add(2 * time.Second); good+bad < 200 && time.Now().Before(deadline); {
		if staged, err := s.Extract(t.Context(), "", bytes.NewReader(a), ExtractOptions{}); err != nil {
			bad++
		} else {
			if _, err := s.Commit(t.Context(), staged, ""); err != nil {
				bad++
			} else {
				good++
			}
			s.GC(t.Context(), func(ChainID) bool { return false })
		}
	}
	stop.Close()
	swaps, _ := said.ReadString('\n')
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d extractions succeeded, %d failed, during %s swaps", good, bad, strings.TrimSpace(swaps))
	if strings.TrimSpace(swaps) == "0" {
		t.Error("nothing was swapped: this test tested nothing")
	}
	if d := diff(before, fingerprintOf(t, canary)); d != "" {
		t.Errorf("outside the store:\n%s", d)
	}
}

// As an ordinary user, in a user namespace with one id, everything works but
// what the documentation excepts.
func TestRootless(t *testing.T) {
	needRoot(t) // to become that user
	base, err := os.MkdirTemp("", "rootless")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	const user = 65534
	if err := os.Chown(base, user, user); err != nil {
		t.Fatal(err)
	}
	cmd := process(t, "rootless", base)
	cmd.Stdout = os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		Credential:  &syscall.Credential{NoSetGroups: true},
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: user, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: user, Size: 1}},
	}
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}
