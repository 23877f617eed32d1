package logs

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// quickLines are lines of which the quick reader takes some and has to leave others.
var quickLines = []string{
	`{"log":"plain\n","stream":"stdout","time":"2026-01-31T12:00:00.123456789Z"}` + "\n",
	`{"log":"","stream":"stderr","time":"2026-01-31T12:00:00Z"}` + "\n",
	`{"log":"\"\\\r\t\u003c\u001b[0m\u0000 ümlaut 漢\n","stream":"stdout","time":"2026-01-31T12:00:00+02:00"}` + "\n",
	`{"log":"\u00e4\u2028\ud83d\ude00\ufffd\b\f\/","stream":"stdout","time":"2026-01-31T12:00:00Z"}` + "\n",
	`{"log":"` + "\xff" + `","stream":"stdout","time":"2026-01-31T12:00:00Z"}` + "\n",
	`{"log":"\ufffd","stream":"stdout","time":"2026-01-31T12:00:00Z","bytes":"/w=="}` + "\n",
	`{"log":"a","stream":"stdoux","time":"2026-01-31T12:00:00Z"}` + "\n",
	`{"log":"a","stream":"stdout","time":"2026-02-31T12:00:00Z"}` + "\n",
	`{"log":"a","stream":"stdout","time":"2026-01-31T12:00:00Z"}` + "\x00\n",
	`{"log":"a","stream":"stdout","time":"2026-01-31T12:00:00Z","log":"b"}` + "\n",
	`{"log":"a` + "\t" + `","stream":"stdout","time":"2026-01-31T12:00:00Z"}` + "\n",
	`{"log":"a","stream":"stdout","time":"2026-01-31T12:00:00Z"}`,
	`{"log":"\u00`, `{"log":"\`, `{"log":"a","stream":"std`, "",
}

// sameAsSlow reports whether the quick reader takes a line, and fails if it reads anything else than json does.
func sameAsSlow(t *testing.T, q *quick, line []byte) bool {
	t.Helper()
	before := bytes.Clone(line)
	got, ok := q.record(line)
	if !bytes.Equal(line, before) {
		t.Fatalf("the line %q became %q", before, line)
	}
	if !ok {
		return false
	}
	want, err := parseRecord(line)
	if err != nil {
		t.Fatalf("%q: read as %+v, but it is damaged: %v", line, got, err)
	}
	if got.Stream != want.Stream || !bytes.Equal(got.Data, want.Data) || !got.Time.Equal(want.Time) || got.Time.Format(time.RFC3339Nano) != want.Time.Format(time.RFC3339Nano) {
		t.Fatalf("%q:\n got %+v\nwant %+v", line, got, want)
	}
	return true
}

// FuzzQuick shows that the quick reader reads what json would.
func FuzzQuick(f *testing.F) {
	for _, line := range quickLines {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) { sameAsSlow(t, new(quick), line) })
}

// TestQuick changes lines at random, and writes records of random bytes: of all that appendRecord writes as text, only U+2028 and
// U+2029 are left to the slow reader. Texts that were read before stay as they were.
func TestQuick(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	q := new(quick)
	taken := 0
	const pieces = "\x00\n\"\\u0/{}:,abtnrdZ9+-. \xc3\xa4\xff"
	for range 100_000 {
		line := []byte(quickLines[random.IntN(len(quickLines))])
		for range random.IntN(3) {
			if len(line) == 0 {
				break
			}
			switch i := random.IntN(len(line)); random.IntN(3) {
			case 0:
				line[i] = pieces[random.IntN(len(pieces))]
			case 1:
				line = append(line[:i], line[i+1:]...)
			case 2:
				line = append(line[:i], append([]byte{pieces[random.IntN(len(pieces))]}, line[i:]...)...)
			}
		}
		if sameAsSlow(t, q, line) {
			taken++
		}
	}
	if taken < 5_000 {
		t.Errorf("only %d lines were read quickly", taken)
	}
	var first Record
	firstText := ""
	for n := range 5_000 {
		r := Record{Stream: Stdout, Time: time.Unix(random.Int64N(1<<33), random.Int64N(1e9)).UTC()}
		for range random.IntN(200) {
			r.Data = append(r.Data, byte(random.IntN(128)))
		}
		if n%2 == 0 {
			r.Stream, r.Data = Stderr, append(r.Data, "äß漢😀\n"...)
		}
		line := appendRecord(nil, r)
		if !sameAsSlow(t, q, line) {
			t.Fatalf("%q is left to the slow reader", line)
		}
		if n == 0 {
			first, _ = q.record(line)
			firstText = string(first.Data)
		}
	}
	if string(first.Data) != firstText {
		t.Errorf("the first text %q became %q", firstText, first.Data)
	}
}

func BenchmarkReadRecord(b *testing.B) {
	line := []byte(`{"log":"` + string(bytes.Repeat([]byte("x"), 99)) + `\n","stream":"stdout","time":"2026-01-31T12:00:00.123456789Z"}` + "\n")
	b.Run("quick", func(b *testing.B) {
		b.SetBytes(100)
		q := new(quick)
		for b.Loop() {
			if _, ok := q.record(line); !ok {
				b.Fatal("it is left to the slow reader")
			}
		}
	})
	b.Run("slow", func(b *testing.B) {
		b.SetBytes(100)
		for b.Loop() {
			if _, err := parseRecord(line); err != nil {
				b.Fatal(err)
			}
		}
	})
}
