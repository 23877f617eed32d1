package monitor

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/streams"
)

// pipes makes a pipe; the reading end does not block.
func pipes(t *testing.T) (r, w *os.File) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// Another container can come by the end of a container's output: it is sent there, or finds it in /proc. Who writes to it
// without end does not put off the end of a container that has ended, whose own last words are all in the log.
func TestOutputOfAnotherDoesNotHoldTheEndUp(t *testing.T) {
	dir := t.TempDir()
	log, err := logs.OpenWriter(filepath.Join(dir, "log"), filepath.Join(dir, "position"), logs.Options{Driver: logs.JSONFile, MaxSize: 1 << 20, MaxFiles: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	from, writer := pipes(t)
	trayOut, trayIn := pipes(t)
	last := bytes.Repeat([]byte("last words\n"), 5000) // nearly what a pipe holds
	if _, err := writer.Write(last); err != nil {
		t.Fatal(err)
	}
	c := &copier{id: "test", chunk: 4096, log: log, hub: &hub{clients: map[*client]bool{}},
		ends: &streams.Ends{Outputs: []streams.Output{{Stream: logs.Stdout, From: from, TrayOut: trayOut, TrayIn: trayIn}}}}
	var strangers sync.WaitGroup
	for range 4 {
		strangers.Go(func() {
			for forged := bytes.Repeat([]byte("forged\n"), 20_000); ; {
				if _, err := writer.Write(forged); err != nil {
					return
				}
			}
		})
	}
	from.SetReadDeadline(time.Now()) // as at the container's end
	copied := make(chan struct{})
	go func() {
		c.copy(&c.ends.Outputs[0])
		close(copied)
	}()
	select {
	case <-copied:
	case <-time.After(20 * time.Second):
		t.Error("what another writes is copied without end")
	}
	from.Close()
	strangers.Wait()
	<-copied
	text, err := os.ReadFile(filepath.Join(dir, "log", logs.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("last words")); n != 5000 {
		t.Errorf("%d of 5000 lines of the container are in the log", n)
	}
}

// A monitor that is killed can leave something in both trays: what one of them holds is in the log, the other's is not. The
// next monitor has each in the log once.
func TestBothTraysAreRecovered(t *testing.T) {
	dir := t.TempDir()
	open := func() *logs.Writer {
		log, err := logs.OpenWriter(filepath.Join(dir, "log"), filepath.Join(dir, "position"), logs.Options{Driver: logs.JSONFile, MaxSize: 1 << 20, MaxFiles: 2})
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	var outputs []streams.Output
	for stream, text := range map[logs.Stream]string{logs.Stdout: "not logged\n", logs.Stderr: "logged\n"} {
		out, in := pipes(t)
		if _, err := in.WriteString(text); err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, streams.Output{Stream: stream, TrayOut: out, TrayIn: in})
	}
	log := open()
	if err := log.Write(logs.Stderr, []byte("logged\n"), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil { // killed before the tray was emptied
		t.Fatal(err)
	}
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		c := &copier{id: "test", chunk: 4096, log: open(), hub: &hub{clients: map[*client]bool{}},
			ends: &streams.Ends{Outputs: []streams.Output{outputs[order[0]], outputs[order[1]]}}}
		c.recover()
		c.log.Close()
	}
	text, err := os.ReadFile(filepath.Join(dir, "log", logs.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte(`"logged\n"`)); n != 1 {
		t.Errorf("what was logged is in the log %d times:\n%s", n, text)
	}
	if n := bytes.Count(text, []byte(`"not logged\n"`)); n != 1 {
		t.Errorf("what was not logged is in the log %d times:\n%s", n, text)
	}
}
