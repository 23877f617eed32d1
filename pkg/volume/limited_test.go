package volume

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSizesOfVolumes(t *testing.T) {
	for text, want := range map[string]int64{"1048576": 1 << 20, "1m": 1 << 20, "10G": 10 << 30, "2gb": 2 << 30, "3GiB": 3 << 30, "1t": 1 << 40,
		"": 0, "1023k": 0, "-1g": 0, "1.5g": 0, "g": 0, "1mm": 0, "9223372036854775807k": 0, "1 g": 0} {
		p, err := ParseOptions(map[string]string{OptionSize: text})
		if p.Size != want || (err == nil) != (want > 0) {
			t.Errorf("size=%s: %d, %v; want %d", text, p.Size, err, want)
		}
		if want == 0 && !errors.Is(err, ErrOptions) {
			t.Errorf("size=%s: %v", text, err)
		}
	}
	if _, err := ParseOptions(map[string]string{OptionSize: "1g", OptionType: "tmpfs"}); !errors.Is(err, ErrOptions) {
		t.Errorf("a tmpfs with a size of its own: %v", err)
	}
}

// Two that attach the file at once have the same device: two would be two file systems in the same blocks.
func TestAnImageHasOneDevice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("mkfs.ext4 is not installed")
	}
	s, err := Open(filepath.Join(t.TempDir(), "volumes"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	v, err := s.Create(ctx, Volume{Name: "v", Options: map[string]string{OptionSize: "2m"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const many = 8
	names := make(chan string, many)
	done := make(chan struct{})
	for range many {
		go func() {
			f, err := s.Image("v").Attach(ctx)
			if err != nil {
				names <- err.Error()
				return
			}
			defer f.Close()
			names <- f.Name()
			<-done
		}()
	}
	first := <-names
	for range many - 1 {
		if name := <-names; name != first {
			t.Errorf("devices %s and %s", first, name)
		}
	}
	close(done)
	dir, free, err := s.Image("v").Open(false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "much"), make([]byte, 4<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("4 MiB went into 2: %v", err)
	}
	const part = 512 << 10
	if err := os.WriteFile(filepath.Join(dir, "part"), make([]byte, part), 0o600); err != nil {
		t.Error(err)
	}
	if limit, err := s.Measure(v); err != nil || limit.Bytes > 2<<20 || limit.Used < part {
		t.Errorf("measured %+v, %v", limit, err)
	}
	if err := free(); err != nil {
		t.Error(err)
	}
	if _, err := s.Remove(ctx, "v", nothingAgainst); err != nil {
		t.Error(err)
	}
}
