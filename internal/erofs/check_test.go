package erofs

import (
	"os"
	"strings"
	"testing"
)

// Whatever byte of the superblock, directories and metadata is another one, and wherever a file ends, is noticed.
func TestDamageIsFound(t *testing.T) {
	tr := randomTree(7, 60)
	file, noted := tr.writeNoted(t, t.TempDir())
	if err := Check(file, noted); err != nil {
		t.Fatalf("as it was written: %v", err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	change := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Check(file, noted); err == nil {
			t.Errorf("%s: not noticed", what)
		}
	}
	at := []int64{superAt, superAt + 4, superAt + 40, superAt + superSize - 1}
	for i := noted.From; i < int64(len(whole)); i += 997 {
		at = append(at, i)
	}
	for _, i := range append(at, int64(len(whole)-1)) {
		data := append([]byte(nil), whole...)
		data[i] ^= 0x10
		change("byte", data)
	}
	for _, size := range []int{0, superAt, Block, len(whole) - Block, len(whole) - 1} {
		change("short", whole[:size])
	}
	change("long", append(whole, 0))
	if err := Check(file+"-gone", noted); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
}
