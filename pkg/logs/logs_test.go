package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tray stands for the pipe in which data lies while it is logged.
type tray struct {
	dir, position string
	o             Options
	data          []byte
	stream        Stream
}

func newTray(t *testing.T, o Options) *tray {
	dir := t.TempDir()
	return &tray{dir: filepath.Join(dir, "log"), position: filepath.Join(dir, "position"), o: o, stream: Stdout}
}

// open begins where a writer that was killed has stopped, as the monitor does.
func (x *tray) open(t *testing.T) *Writer {
	t.Helper()
	w, err := OpenWriter(x.dir, x.position, x.o)
	if err != nil {
		t.Fatal(err)
	}
	if len(x.data) > 0 && !w.Logged(x.stream) {
		if err := w.Write(x.stream, x.data, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	x.data = nil
	if err := w.Emptied(); err != nil {
		t.Fatal(err)
	}
	return w
}

// all reads the log.
func (x *tray) all(t *testing.T, o ReadOptions) string {
	t.Helper()
	var out bytes.Buffer
	err := Read(context.Background(), x.dir, o, func(r Record) error { out.Write(r.Data); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestWriterThatIsKilled stops a writer at every point between two of its effects: no line is lost, and none is there
// twice.
func TestWriterThatIsKilled(t *testing.T) {
	x := newTray(t, Options{Driver: JSONFile, MaxSize: 20000, MaxFiles: 2000})
	w := x.open(t)
	random := rand.New(rand.NewPCG(1, 2))
	var want strings.Builder
	for i := range 3000 {
		text := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", random.IntN(60)))
		if random.IntN(4) == 0 {
			text = strings.TrimSuffix(text, "\n") // goes on
		}
		want.WriteString(text)
		x.data = []byte(text)
		kill := random.IntN(12)
		switch kill {
		case 0: // before anything: the data is in the tray
		case 1: // the log is written, in part or whole, and not the position
			lines := appendRecord(nil, Record{Stdout, time.Now(), x.data})
			if _, err := w.file.Write(lines[:random.IntN(len(lines)+1)]); err != nil {
				t.Fatal(err)
			}
		case 2: // the log has been moved on too
			if err := w.moveUp(); err != nil {
				t.Fatal(err)
			}
			if err := w.open(); err != nil {
				t.Fatal(err)
			}
			w.file.WriteString("half a li")
		default:
			if err := w.Write(Stdout, x.data, time.Now()); err != nil {
				t.Fatal(err)
			}
			switch kill {
			case 3: // the tray is full yet
			case 4: // the tray is empty, and nobody has noted it
				x.data = nil
			default:
				x.data = nil
				if err := w.Emptied(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if kill <= 4 {
			w.Close()
			w = x.open(t)
		}
	}
	if err := w.End(time.Now()); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if got := x.all(t, ReadOptions{}); got != want.String() {
		t.Errorf("the log has %d bytes, %d were written", len(got), want.Len())
	}
}

func TestRecords(t *testing.T) {
	for _, data := range []string{"plain\n", "", "\x00\x1f\"\\\r\t<>&\u2028é\U0001f600\n", "\xff\xfe binary \x80\n", "no end"} {
		r := Record{Stderr, time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC), []byte(data)}
		line := appendRecord(nil, r)
		var asDocker struct{ Log, Stream, Time string }
		if err := json.Unmarshal(line, &asDocker); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if want := strings.ToValidUTF8(data, "\ufffd"); strings.Count(asDocker.Log, "") < strings.Count(want, "") || asDocker.Stream != "stderr" {
			t.Errorf("docker reads %+v of %q", asDocker, data)
		}
		got, err := parseRecord(line)
		if err != nil || string(got.Data) != data || got.Stream != r.Stream || !got.Time.Equal(r.Time) {
			t.Errorf("%q comes back as %+v (%v)", data, got, err)
		}
	}
}

func TestFilesAreBounded(t *testing.T) {
	for _, driver := range []string{JSONFile, Local} {
		x := newTray(t, Options{Driver: driver, MaxSize: 1000, MaxFiles: 4, Compress: driver == Local})
		w := x.open(t)
		for i := range 500 {
			if err := w.Write(Stdout, []byte(strconv.Itoa(10000+i)+"\n"), time.Now()); err != nil {
				t.Fatal(err)
			}
			if err := w.Emptied(); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		entries, err := os.ReadDir(x.dir)
		if err != nil || len(entries) != 4 {
			t.Errorf("%s: %d files (%v), want 4", driver, len(entries), err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Size() > 1000 {
				t.Errorf("%s: %s is longer than allowed (%v)", driver, e.Name(), err)
			}
		}
		lines := strings.Fields(x.all(t, ReadOptions{}))
		if len(lines) < 30 || lines[len(lines)-1] != "10499" {
			t.Fatalf("%s: %d lines, the last %q", driver, len(lines), lines[len(lines)-1])
		}
		for i := range lines[1:] {
			if lines[i] >= lines[i+1] {
				t.Errorf("%s: %s is before %s", driver, lines[i], lines[i+1])
			}
		}
		if got := x.all(t, ReadOptions{Last: true, Tail: 20}); strings.Count(got, "\n") != 20 || !strings.HasPrefix(got, "10480\n") {
			t.Errorf("%s: the last 20 lines are %q", driver, got)
		}
	}
}

// TestUncompressed: a file that cannot be compressed stays as it is, and the log goes on; later ones are compressed again.
func TestUncompressed(t *testing.T) {
	x := newTray(t, Options{Driver: Local, MaxSize: 1000, MaxFiles: 9, Compress: true})
	w := x.open(t)
	defer w.Close()
	obstacle := filepath.Join(x.dir, older(1)+zipped+".new")
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	told := 0
	for i := range 40 {
		if i == 25 {
			if err := os.Remove(obstacle); err != nil {
				t.Fatal(err)
			}
		}
		line := strconv.Itoa(10000+i) + "\n"
		want.WriteString(line)
		if err := errors.Join(w.Write(Stdout, []byte(line), time.Now()), w.Emptied()); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		if err := w.Unpacked(); err != nil {
			told++
		}
	}
	if got := x.all(t, ReadOptions{}); got != want.String() {
		t.Errorf("the log is %q", got)
	}
	plain, _ := filepath.Glob(filepath.Join(x.dir, "json.log.[0-9]"))
	packed, _ := filepath.Glob(filepath.Join(x.dir, "json.log.[0-9].gz"))
	if told == 0 || len(plain) != told || len(packed) == 0 {
		t.Errorf("%d failures were told; %d files are not compressed, and %d are", told, len(plain), len(packed))
	}
}

// TestMatch: whole lines are matched, also those that are several records, and of both streams at once; Tail counts those that match.
func TestMatch(t *testing.T) {
	x := newTray(t, Options{Driver: JSONFile, MaxSize: 1 << 20, MaxFiles: 2})
	w := x.open(t)
	long := strings.Repeat("x", MaxLine-3) + "needle" + strings.Repeat("y", MaxLine) // torn between the records
	for _, part := range []struct {
		stream Stream
		text   string
	}{{Stdout, "one needle\n"}, {Stdout, "hay\n"}, {Stdout, long[:MaxLine+5]}, {Stderr, "need"}, {Stderr, "le in err\n"}, {Stdout, long[MaxLine+5:] + "\n"}, {Stdout, "last needle"}} {
		if err := errors.Join(w.Write(part.stream, []byte(part.text), time.Now()), w.Emptied()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.End(time.Now()), w.Close()); err != nil {
		t.Fatal(err)
	}
	needle := func(line []byte) bool {
		return bytes.Contains(line, []byte("needle")) && !bytes.HasSuffix(line, []byte("\n"))
	}
	for _, c := range []struct {
		o    ReadOptions
		want string
	}{
		{ReadOptions{Match: needle}, "one needle\nneedle in err\n" + long + "\nlast needle"},
		{ReadOptions{Match: needle, Last: true, Tail: 2}, long + "\nlast needle"},
		{ReadOptions{Match: needle, Last: true}, ""},
		{ReadOptions{Match: func(line []byte) bool { return string(line) == "hay" }, Last: true, Tail: 7}, "hay\n"},
		{ReadOptions{Match: func([]byte) bool { return false }}, ""},
	} {
		if got := x.all(t, c.o); got != c.want {
			t.Errorf("%+v: %d bytes, want %d: %.80q", c.o, len(got), len(c.want), got)
		}
	}
}

// TestFollow: a reader that follows sees every line of a writer that moves from file to file.
func TestFollow(t *testing.T) {
	x := newTray(t, Options{Driver: JSONFile, MaxSize: 1000, MaxFiles: 200})
	w := x.open(t)
	if err := os.MkdirAll(x.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	watched := t.TempDir()
	ended := filepath.Join(watched, "ended")
	go func() {
		defer w.Close()
		for i := range 1000 {
			if err := w.Write(Stdout, []byte(strconv.Itoa(i)+"\n"), time.Now()); err != nil {
				t.Error(err)
			}
			if err := w.Emptied(); err != nil {
				t.Error(err)
			}
		}
		if err := os.WriteFile(ended, nil, 0o600); err != nil {
			t.Error(err)
		}
	}()
	next := 0
	isEnded := func() (bool, error) {
		_, err := os.Stat(ended)
		return err == nil, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := Read(ctx, x.dir, ReadOptions{Follow: true, Ended: isEnded, Watch: []string{watched}}, func(r Record) error {
		if string(r.Data) != strconv.Itoa(next)+"\n" {
			return fmt.Errorf("%q in the place of %d", r.Data, next)
		}
		next++
		return nil
	})
	if err != nil || next != 1000 {
		t.Errorf("%d lines: %v", next, err)
	}
}

// TestFollowIsCutShort: who ends the waiting is told that it was not to the end; docker's logs --follow fails at Ctrl-C, too.
func TestFollowIsCutShort(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := Read(ctx, t.TempDir(), ReadOptions{Follow: true, Ended: func() (bool, error) { return false, nil }}, func(Record) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// TestGap: what cannot be written is missing, and the log says so.
func TestGap(t *testing.T) {
	x := newTray(t, Options{Driver: JSONFile, MaxSize: 1 << 20, MaxFiles: 2})
	w := x.open(t)
	good := w.file
	bad, err := os.Open(good.Name()) // for reading only: each write fails
	if err != nil {
		t.Fatal(err)
	}
	w.file = bad
	if err := w.Write(Stdout, []byte("lost\n"), time.Now()); err == nil {
		t.Error("a failure was not told")
	}
	if err := w.Write(Stdout, []byte("lost too\n"), time.Now()); err != nil {
		t.Errorf("a failure was told twice: %v", err)
	}
	w.file = good
	if err := w.Write(Stdout, []byte("kept\n"), time.Now()); err != nil {
		t.Fatal(err)
	}
	if got, want := x.all(t, ReadOptions{}), "[14 bytes of output are missing here: the log could not be written]\nkept\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestCollectorOptions: docker's options of gelf and fluentd have their meaning, and what makes none is refused.
func TestCollectorOptions(t *testing.T) {
	for _, c := range []struct {
		driver, options, want string
	}{
		{Gelf, "gelf-address=udp://[::1]", "gelf {udp [::1]:12201 gzip 1} 0 0s"},
		{Gelf, "gelf-address=tcp://h:1 gelf-tcp-max-reconnect=3 gelf-tcp-reconnect-delay=2", "gelf {tcp h:1 gzip 1} 3 2s"},
		{Gelf, "gelf-address=udp://h gelf-compression-type=zlib gelf-compression-level=-1", "gelf {udp h:12201 zlib -1} 0 0s"},
		{Gelf, "gelf-address=udp://h gelf-compression-level=10", "error: use a number from -1 to 9"},
		{Gelf, "gelf-address=h:1", "error: use udp://HOST:PORT or tcp://HOST:PORT"},
		{Gelf, "gelf-address=tcp://h gelf-tcp-max-reconnect=0", "error: use a number from 1 on, or leave it out: then no line is lost"},
		{Gelf, "gelf-address=tcp://h gelf-tcp-reconnect-delay=1s", "error: use a number of seconds from 1 on"},
		{Fluentd, "", "fluentd {tcp 127.0.0.1:24224 false true} 0 0s"},
		{Fluentd, "fluentd-address=h", "fluentd {tcp h:24224 false true} 0 0s"},
		{Fluentd, "fluentd-address=tls://h:1 fluentd-request-ack=false fluentd-sub-second-precision=true", "fluentd {tls h:1 true false} 0 0s"},
		{Fluentd, "fluentd-address=unix:///s fluentd-max-retries=7 fluentd-retry-wait=500ms fluentd-async=true", "fluentd {unix /s false true} 7 500ms"},
		{Fluentd, "fluentd-max-retries=4294967295", "fluentd {tcp 127.0.0.1:24224 false true} 0 0s"},
		{Fluentd, "fluentd-retry-wait=0s", "error: use a duration, as in 500ms or 1s"},
		{Fluentd, "fluentd-sub-second-precision=yes", "error: use true or false"},
		{Fluentd, "fluentd-address=udp://h", "error: use HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH"},
	} {
		options := map[string]string{}
		for _, o := range strings.Fields(c.options) {
			key, value, _ := strings.Cut(o, "=")
			options[key] = value
		}
		o, err := Parse(c.driver, options, nil)
		got := fmt.Sprintln(c.driver, any(o.Gelf), o.Retries, o.RetryWait)
		if c.driver == Fluentd {
			got = fmt.Sprintln(c.driver, any(o.Fluentd), o.Retries, o.RetryWait)
		}
		if err != nil {
			got = "error: " + errors.Unwrap(err).Error() + "\n"
		}
		if got != c.want+"\n" {
			t.Errorf("%s %s:\ngot  %swant %s", c.driver, c.options, got, c.want)
		}
	}
}
