package snapshot

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/containr/containr/internal/safepath"
)

// manyFiles is an archive of n files in n/50 directories, with sizes as in a
// system: most of a few kB, some large.
func manyFiles(b *testing.B, n int, seed uint64) []byte {
	b.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	entries := []entry{own(dir(".", 0o755))}
	for i := range n {
		d := fmt.Sprintf("usr/share/seed%d/dir%d", seed, i/50)
		if i%50 == 0 {
			entries = append(entries, ownDir(d))
		}
		size := r.IntN(8000)
		if i%100 == 0 {
			size = r.IntN(len(data))
		}
		entries = append(entries, own(reg(fmt.Sprintf("%s/file%d", d, i), string(data[:size]))))
	}
	return archive(b, entries...)
}

// BenchmarkUnpack unpacks 20,000 files, in one layer and in four, into directories and, as root, into EROFS images.
func BenchmarkUnpack(b *testing.B) {
	for _, n := range []int{1, 4} {
		var archives [][]byte
		size := 0
		for i := range n {
			archives = append(archives, manyFiles(b, 20000/n, uint64(i)))
			size += len(archives[i])
		}
		drivers := []Driver{Overlay, Erofs}
		if os.Geteuid() != 0 {
			drivers = drivers[:1]
		}
		for _, d := range drivers {
			b.Run(fmt.Sprintf("layers=%d/%s", n, d), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					b.StopTimer()
					s := open(b, Options{Rootless: os.Geteuid() != 0, Driver: d})
					b.StartTimer()
					unpack(b, s, archives...)
					b.StopTimer()
					safepath.RemoveAll(s.dir)
					b.StartTimer()
				}
			})
		}
	}
}

// BenchmarkTar is the floor: GNU tar, which checks no digest.
func BenchmarkTar(b *testing.B) {
	if _, err := exec.LookPath("tar"); err != nil {
		b.Skip("tar is not installed")
	}
	a := manyFiles(b, 20000, 0)
	b.SetBytes(int64(len(a)))
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		cmd := exec.Command("tar", "-x", "-C", dir)
		cmd.Stdin = bytes.NewReader(a)
		b.StartTimer()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("tar: %v\n%s", err, out)
		}
		b.StopTimer()
		safepath.RemoveAll(dir)
		b.StartTimer()
	}
}
