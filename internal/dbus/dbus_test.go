package dbus

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit"
)

// TestWire has values whose layout the specification gives, or busctl sends.
func TestWire(t *testing.T) {
	for _, c := range []struct {
		signature string
		words     []string
		want      string // with . for a zero byte
	}{
		{"", nil, ""},
		{"s", []string{"foo"}, "\x03...foo."},
		{"yu", []string{"7", "258"}, "\x07...\x02\x01.."},
		{"g", []string{"a(ss)"}, "\x05a(ss)."},
		{"b", []string{"true"}, "\x01..."},
		{"n", []string{"-2"}, "\xfe\xff"},
		{"ax", []string{"1", "5"}, "\x08.......\x05......."},
		{"ax", []string{"0"}, "........"},
		{"v", []string{"t", "1"}, "\x01t......\x01......."},
		{"a(sv)", []string{"1", "A", "u", "9"}, "\x10.......\x01...A.\x01u....\x09..."},
		{"a{sy}", []string{"2", "a", "1", "b", "2"}, "\x0f.......\x01...a.\x01.\x01...b.\x02"},
	} {
		got, err := Encode(c.signature, c.words)
		want := strings.ReplaceAll(c.want, ".", "\x00")
		if err != nil || string(got) != want {
			t.Errorf("%q %q: %q, error %v, want %q", c.signature, c.words, got, err, want)
		}
		words, err := Decode(c.signature, got)
		if err != nil || !slices.Equal(words, c.words) {
			t.Errorf("%q back: %q, error %v", c.words, words, err)
		}
	}
}

func TestWireRefuses(t *testing.T) {
	for _, c := range []struct {
		signature string
		words     []string
	}{
		{"s", nil}, {"s", []string{"a", "b"}}, {"u", []string{"-1"}}, {"y", []string{"256"}}, {"a", nil}, {"(s", []string{"a"}},
		{"as", []string{"-1"}}, {"as", []string{"2", "a"}}, {"v", []string{"ss", "a", "b"}}, {"h", []string{"1"}}, {"s)", []string{"a"}}, {"a()", []string{"1"}},
		{"a(})", []string{"1"}}, {"(y}", []string{"1"}}, {"a{y)", []string{"1", "1"}}, {"(a)", []string{"1"}}, {"(()y)", []string{"1"}},
		{strings.Repeat("a", 70) + "y", slices.Repeat([]string{"1"}, 71)},
	} {
		if got, err := Encode(c.signature, c.words); !errors.Is(err, errSignature) {
			t.Errorf("%q %q: %q, error %v", c.signature, c.words, got, err)
		}
	}
}

// TestDecodeTrustsNoLength has lengths that, with something added to them, are no numbers
// of 32 bits any more. TestOn32Bits runs it where that matters.
func TestDecodeTrustsNoLength(t *testing.T) {
	for _, signature := range []string{"s", "o", "as", "ay", "at", "a{sv}"} {
		for _, length := range []string{"\xff\xff\xff\xff", "\xfe\xff\xff\xff", "\xff\xff\xff\x7f", "\xfe\xff\xff\x7f", "\x00\x00\x00\x80"} {
			for _, rest := range []string{"", "\x00", "abcd", "\x00\x00\x00\x00a"} {
				if words, err := Decode(signature, []byte(length+rest)); !errors.Is(err, errShort) {
					t.Errorf("%s %q: %q, error %v", signature, length+rest, words, err)
				}
			}
		}
	}
}

// TestMessageSurvives sends every field through, and cuts the message short everywhere.
func TestMessageSurvives(t *testing.T) {
	m := Message{Kind: Failed, Serial: 7, Path: "/a", Interface: "b.c", Member: "D", Destination: "e.f", Sender: ":1.7", ErrorName: "g.h", Reply: 9,
		Signature: "sa(ss)", Words: []string{"text", "1", "x", "y"}}
	text, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadMessage(bytes.NewReader(text))
	if err != nil || got.Member != "D" || got.Path != "/a" || got.Interface != "b.c" || got.Destination != "e.f" || got.Sender != ":1.7" || got.ErrorName != "g.h" ||
		got.Reply != 9 || got.Serial != 7 || got.Kind != Failed || !slices.Equal(got.Words, m.Words) {
		t.Errorf("%+v, error %v", got, err)
	}
	for i := range text {
		if _, err := ReadMessage(bytes.NewReader(text[:i])); err == nil {
			t.Errorf("%d of %d bytes were enough", i, len(text))
		}
	}
}

// TestOn32Bits runs the tests of the decoder as a program for 32-bit x86.
func TestOn32Bits(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs a machine that runs programs for 386")
	}
	program, err := testkit.BuildTest("github.com/containr/containr/internal/dbus", "386")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "-test.run", "^(TestWire|TestWireRefuses|TestDecodeTrustsNoLength|TestMessageSurvives|FuzzReadMessage)$").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func FuzzReadMessage(f *testing.F) {
	m := Message{Kind: Signal, Serial: 1, Path: "/a", Interface: "b.c", Member: "D", Signature: "uoss", Words: []string{"1", "/j", "u", "done"}}
	text, err := m.Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	m.Signature, m.Words = "a(v)", []string{"1", "a{sv}", "1", "k", "as", "1", "x"}
	if text, err = m.Append(nil); err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	long := slices.Clone(text) // the name of its member is of nearly 4 GB
	copy(long[bytes.Index(long, []byte("\x01\x00\x00\x00D")):], "\xff\xff\xff\xff")
	f.Add(long)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ReadMessage(bytes.NewReader(b))
		if err != nil {
			return
		}
		if _, err := m.Append(nil); err != nil && !errors.Is(err, errSignature) {
			t.Error(err)
		}
	})
}

// realBus starts the reference implementation's broker on a socket.
func realBus(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skipf("needs dbus-daemon: %v", err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "bus")
	config := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path=` + socket + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config-file="+file, "--nofork", "--nopidfile", "--print-address=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 256)); err != nil { // it has said where it listens
		t.Fatal(err)
	}
	return socket
}

// TestRealBus talks to the reference implementation.
func TestRealBus(t *testing.T) {
	socket := realBus(t)
	c, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	call := func(member, signature string, words ...string) ([]string, error) {
		return c.Call(Message{Destination: "org.freedesktop.DBus", Path: "/org/freedesktop/DBus", Interface: "org.freedesktop.DBus",
			Member: member, Signature: signature, Words: words})
	}
	name, err := call("Hello", "")
	if err != nil || len(name) != 1 || !strings.HasPrefix(name[0], ":1.") {
		t.Fatalf("%q, error %v", name, err)
	}
	if _, err := call("AddMatch", "s", "type='signal',member='NameOwnerChanged'"); err != nil {
		t.Fatal(err)
	}
	if got, err := call("RequestName", "su", "org.example.A", "0"); err != nil || !slices.Equal(got, []string{"1"}) {
		t.Errorf("%q, error %v", got, err)
	}
	if got, err := call("ListNames", ""); err != nil || !slices.Contains(got, "org.example.A") {
		t.Errorf("%q, error %v", got, err)
	}
	if got, err := call("GetConnectionCredentials", "s", "org.example.A"); err != nil || !slices.Contains(got, "UnixUserID") {
		t.Errorf("%q, error %v", got, err)
	}
	if _, err := call("GetNameOwner", "s", "org.example.Nobody"); !IsError(err, "org.freedesktop.DBus.Error.NameHasNoOwner") {
		t.Errorf("error %v", err)
	}
	for {
		got, err := c.Signal("NameOwnerChanged")
		if err != nil {
			t.Fatal(err)
		}
		if got.Sender != "org.freedesktop.DBus" {
			t.Errorf("%+v is not from the bus", got)
		}
		if slices.Equal(got.Words, []string{"org.example.A", "", name[0]}) {
			break
		}
	}
}

func TestNobodyListens(t *testing.T) {
	if _, err := Dial(filepath.Join(t.TempDir(), "nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
