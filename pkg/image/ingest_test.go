package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/opencontainers/go-digest"
)

func newLease(t testing.TB, s *Store) *Lease {
	t.Helper()
	l, err := s.Lease(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestOnlyVerifiedContentBecomesVisible(t *testing.T) {
	s := newStore(t)
	lease := newLease(t, s)
	blob := testimage.NewBlob("", []byte("some content"))
	for content, text := range map[string]string{
		"some content and more": fmt.Sprintf("blob %s: want 12 bytes, got more", blob.Digest),
		"some":                  fmt.Sprintf("blob %s: want 12 bytes, got 4", blob.Digest),
		"SOME CONTENT":          fmt.Sprintf("blob %s: content has digest %s", blob.Digest, digest.FromString("SOME CONTENT")),
	} {
		err := lease.Copy(t.Context(), blob.Descriptor, strings.NewReader(content))
		expectError(t, err, ErrCorrupt, text)
		expectBlobs(t, s)
	}
	put(t, lease, blob)
	expectBlobs(t, s, blob)
	if _, err := lease.Ingest(t.Context(), blob.Descriptor); !errors.Is(err, ErrExists) {
		t.Errorf("second time: %v", err)
	}
	if _, err := s.ReadBlob(blob.Descriptor, 5); !errors.Is(err, ErrLimit) {
		t.Errorf("read with a limit: %v", err)
	}
	long := blob.Descriptor
	long.Digest = digest.SHA512.FromBytes(blob.Data)
	if err := lease.Put(t.Context(), long, blob.Data); err != nil {
		t.Errorf("sha512: %v", err)
	}
	evil := blob.Descriptor
	evil.Digest = "sha256:../../../../tmp/evil"
	if _, err := lease.Ingest(t.Context(), evil); !errors.Is(err, ErrInvalid) {
		t.Errorf("path for a digest: %v", err)
	}
	if _, err := s.OpenBlob(evil); !errors.Is(err, ErrInvalid) {
		t.Errorf("path for a digest: %v", err)
	}
}

func TestIngestNewFindsDigest(t *testing.T) {
	s := newStore(t)
	lease := newLease(t, s)
	for range 2 { // the second time it is there already
		w, err := lease.IngestNew(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(w, "content")
		if err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if got := w.Descriptor(); got.Digest != digest.FromString("content") || got.Size != 7 {
			t.Errorf("descriptor %+v", got)
		}
		expectBlobs(t, s, testimage.NewBlob("", []byte("content")))
	}
	gc(t, s)
	expectBlobs(t, s, testimage.NewBlob("", []byte("content")))
}

// A follower reads what has arrived, waits for the rest, and learns the outcome.
func TestFollow(t *testing.T) {
	content := []byte("first half, second half")
	for name, c := range map[string]struct {
		finish func(*Writer) error
		want   error
	}{
		"commit": {func(w *Writer) error { return w.Commit(context.Background()) }, nil},
		"close":  {func(w *Writer) error { return w.Close() }, ErrAbandoned},
		"fail":   {func(w *Writer) error { w.Fail(io.ErrClosedPipe); return nil }, io.ErrClosedPipe},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { follow(t, content, c.finish, c.want) })
		})
	}
}

// follow is TestFollow for one way to finish. It runs in a bubble of synctest,
// which knows when the follower waits.
func follow(t *testing.T, content []byte, finish func(*Writer) error, want error) {
	s := newStore(t)
	w, err := newLease(t, s).Ingest(t.Context(), testimage.NewBlob("", content).Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Follow()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got bytes.Buffer
	var outcome error
	ended := false
	go func() {
		_, outcome = got.ReadFrom(r)
		ended = true
	}()
	start := 0
	for _, end := range []int{0, 10, len(content)} {
		if _, err := w.Write(content[start:end]); err != nil {
			t.Fatal(err)
		}
		start = end
		synctest.Wait()
		if ended || !bytes.Equal(got.Bytes(), content[:end]) {
			t.Fatalf("after %d bytes the follower has %q, ended: %v", end, got.Bytes(), ended)
		}
	}
	if err := finish(w); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	if !ended || !errors.Is(outcome, want) || (want == nil) != (outcome == nil) {
		t.Errorf("follower ended: %v, with %v, want %v", ended, outcome, want)
	}
}

// Of many that want the same blob, one writes it and the others find it.
func TestSameBlobIsIngestedOnce(t *testing.T) {
	s := newStore(t)
	blob := testimage.NewBlob("", bytes.Repeat([]byte("x"), 1<<20))
	var writers atomic.Int32
	ingest := func() error {
		other, err := Open(s.dir) // as another process would
		if err != nil {
			return err
		}
		lease, err := other.Lease(context.Background())
		if err != nil {
			return err
		}
		defer lease.Close()
		w, err := lease.Ingest(context.Background(), blob.Descriptor)
		if errors.Is(err, ErrExists) {
			return nil
		}
		if err != nil {
			return err
		}
		defer w.Close()
		writers.Add(1)
		if _, err := w.Write(blob.Data); err != nil {
			return err
		}
		return w.Commit(context.Background())
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := ingest(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := writers.Load(); n != 1 {
		t.Errorf("%d wrote the blob", n)
	}
	expectBlobs(t, s, blob)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestWaitingForAnotherIngestEndsWithContext(t *testing.T) {
	s := newStore(t)
	blob := testimage.NewBlob("", []byte("x"))
	w, err := newLease(t, s).Ingest(t.Context(), blob.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	lease := newLease(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() {
		_, err := lease.Ingest(ctx, blob.Descriptor)
		result <- err
	}()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The process that TestKilledIngest kills is this test binary with crashDir set.
const crashDir = "CONTAINR_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crash(dir)
	}
	os.Exit(m.Run())
}

// crashContent is what the killed process was about to store.
var crashContent = testimage.NewBlob("", bytes.Repeat([]byte("crash"), 1000))

// crash leaves as much unfinished as a process can, says so, and waits.
func crash(dir string) {
	s, err := Open(dir)
	if err != nil {
		panic(err)
	}
	lease, err := s.Lease(context.Background())
	if err != nil {
		panic(err)
	}
	complete := testimage.NewBlob("", []byte("complete, but without a name"))
	if err := lease.Put(context.Background(), complete.Descriptor, complete.Data); err != nil {
		panic(err)
	}
	known, err := lease.Ingest(context.Background(), crashContent.Descriptor)
	if err != nil {
		panic(err)
	}
	known.Write(crashContent.Data[:2000])
	unknown, err := lease.IngestNew(context.Background())
	if err != nil {
		panic(err)
	}
	unknown.Write(crashContent.Data)
	fmt.Println("ready")
	testkit.WaitToBeKilled()
}

func TestKilledIngestLeavesNoBlobAndNoGarbage(t *testing.T) {
	s := newStore(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+s.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	complete := testimage.NewBlob("", []byte("complete, but without a name"))
	gc(t, s) // while it lives nothing of it is garbage
	if got := len(entries(t, s, "ingest")); got != 2 || !s.Has(complete.Descriptor) {
		t.Errorf("a living process lost its content: %d files under ingest/", got)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if s.Has(crashContent.Descriptor) {
		t.Error("half a blob became visible")
	}
	// The next process takes over what the dead one began, from the start.
	lease := newLease(t, s)
	put(t, lease, crashContent)
	gc(t, s)
	expectBlobs(t, s, crashContent)
	lease.Close()
	gc(t, s)
	expectBlobs(t, s)
	if left := entries(t, s, "leases"); len(left) > 0 {
		t.Errorf("left under leases/: %q", left)
	}
}

func TestGCRemovesTemporariesOfKilledWriters(t *testing.T) {
	s := newStore(t)
	path := filepath.Join(s.dir, "index.json.tmp-12-0")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	gc(t, s)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}
