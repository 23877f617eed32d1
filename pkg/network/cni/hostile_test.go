package cni

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/plan/linux"
)

// script writes a plugin that is a shell script.
func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A plugin that prints without end is ended with all that it has started, and what it printed is not kept.
func TestOutputOfPluginsIsBounded(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"what fits", "head -c 1048576 /dev/zero", ""},
		{"a byte too much", "head -c 1048577 /dev/zero", "it printed more than 1 MiB to its standard output"},
		{"a byte too much of complaints", "head -c 1048577 /dev/zero >&2", "it printed more than 1 MiB to its standard error"},
		{"without end", "sleep 100 >/dev/null 2>&1 & exec cat /dev/zero", "it printed more than 1 MiB to its standard output"},
		{"complaints without end", "sleep 100 >/dev/null 2>&1 & exec cat /dev/zero >&2", "it printed more than 1 MiB to its standard error"},
		{"by what it leaves running", "cat /dev/zero & exit 0", "it printed more than 1 MiB to its standard output"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			// Whoever is of the plugin's holds this open, until it ends.
			alive := filepath.Join(dir, "alive")
			if err := unix.Mkfifo(alive, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(alive, os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			path := script(t, dir, "loud", "exec 9>'"+alive+"'\n"+c.text)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, err := new(executor).ExecPlugin(ctx, path, nil, []string{"CNI_COMMAND=ADD", "PATH=" + os.Getenv("PATH")})
			if c.want == "" {
				if err != nil || len(out) != maxOutput {
					t.Fatalf("%d bytes, %v", len(out), err)
				}
				return
			}
			if err == nil || len(out) > 0 || !strings.Contains(err.Error(), path+": "+c.want) {
				t.Errorf("%d bytes, error %v; want %s", len(out), err, c.want)
			}
			if err := f.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, f); err != nil {
				t.Errorf("something of the plugin's goes on: %v", err)
			}
		})
	}
}

// tree lists the files below a directory.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		list = append(list, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Names that an annotation, a record or a journal has are names and not paths: nothing is made, locked or deleted by them.
func TestNamesOfNetworksAreNoPaths(t *testing.T) {
	for _, name := range []string{"../../victim", "/victim", "..", ".", "lo", "a:b", "a%d", "a\x00b", "a\x1b[2J", "name-of-16-bytes"} {
		quoted, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{"a@" + name, `[{"name": "a", "interface": ` + string(quoted) + `}]`} {
			if _, err := ParseNetworks(form); !errors.Is(err, ErrAnnotation) || !strings.Contains(err.Error(), "no name for a network device") {
				t.Errorf("%q: error %v", form, err)
			}
		}
	}
	for _, form := range []string{"..@net1", "-a", `[{"name": "../a"}]`, `[{"name": ".a"}]`} {
		if _, err := ParseNetworks(form); !errors.Is(err, ErrAnnotation) {
			t.Errorf("%q: error %v", form, err)
		}
	}
	if _, err := Parse("f", []byte("{\n\"name\": \"../../a\", \"plugins\": [{\"type\": \"x\"}]}")); !errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), `f:2: "../../a" is no name`) {
		t.Errorf("a network in a file: error %v", err)
	}

	dir := t.TempDir()
	victim := filepath.Join(dir, "victim.lock")
	at := Place{Netns: filepath.Join(dir, "run", "id", "netns"), Cache: filepath.Join(dir, "cache"), Bin: []string{filepath.Join(dir, "bin")}}
	for _, made := range []string{filepath.Dir(at.Netns), at.Bin[0]} {
		if err := os.MkdirAll(made, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(victim, []byte("of somebody else"), 0o600); err != nil {
		t.Fatal(err)
	}
	script(t, at.Bin[0], "x", `echo '{"cniVersion": "1.0.0"}'`)
	n, err := Parse("f", []byte(`{"name": "a", "cniVersion": "1.0.0", "plugins": [{"type": "x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	for _, a := range []Attachment{
		{Container: "id", Interface: "../../victim"},
		{Container: "id", Interface: "../../new"},
		{Container: "../../id", Interface: "eth0"},
		{Container: "id", Interface: "eth0", Config: json.RawMessage(`{"name": "../../a", "cniVersion": "1.0.0", "plugins": [{"type": "x"}]}`)},
	} {
		a.Netns, a.Cache, a.Bin = at.Netns, at.Cache, at.Bin
		if a.Config == nil {
			a.Config = n.List.Bytes
			if _, err := Connect("pid", at, []Request{{Network: n, Container: a.Container, Interface: a.Interface}}); err == nil {
				t.Errorf("container %s, interface %s are planned", a.Container, a.Interface)
			}
		}
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Do(linux.CNI{Attachment: string(text)}, nil); err == nil {
			t.Errorf("ADD of %s", text)
		}
		if err := Undo(linux.CNIDelete{Attachment: string(text)}); err == nil {
			t.Errorf("DEL of %s", text)
		}
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	if _, err := lockOf(at.Netns, "../../victim"); err == nil {
		t.Error("a lock may lie anywhere")
	}
}

// An argument is one argument, whatever an annotation has in it.
func TestArgumentsStayOne(t *testing.T) {
	for _, args := range []string{`{"X": "a;IP=1.2.3.4"}`, `{"X": {"y": "a;IP=1.2.3.4"}}`, `{"X;IP": "1.2.3.4"}`, `{"X=1;IP": ""}`, `{"X=Y": "1"}`, `{"": "1"}`, `{"X": "a\nb"}`, `{"X": "a\u0000b"}`} {
		if _, err := ParseNetworks(`[{"name": "a", "cni-args": ` + args + `}]`); !errors.Is(err, ErrAnnotation) || !strings.Contains(err.Error(), "network a: cni-args: ") {
			t.Errorf("%s: error %v", args, err)
		}
	}
	if list, err := ParseNetworks(`[{"name": "a", "cni-args": {"X": "it's = $1", "n": 7}}]`); err != nil || len(list[0].Args) != 2 {
		t.Errorf("%v: %v", list, err)
	}
}

// The commands that explain shows are those that are executed, also if one pastes them into a shell.
func TestShownCommandsAreQuoted(t *testing.T) {
	const odd = "it's $(touch broken) `touch broken` | touch broken & \"touch\" > broken #"
	dir := t.TempDir()
	bin, seen := filepath.Join(dir, "b in$(touch broken)`touch broken`'"), filepath.Join(dir, "seen")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	script(t, bin, "x y;touch broken", `printf '%s\n' "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" "$CNI_PATH" > '`+seen+`'; cat >> '`+seen+`'`)
	n, err := Parse("f", []byte(`{"name": "a", "cniVersion": "1.0.0", "plugins": [{"type": "x y;touch broken"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	netns := filepath.Join(dir, "$(touch broken)&'n")
	a, err := Request{Network: n, Container: "id", Interface: "e'`$(&;|\"", Args: [][2]string{{"X", odd}}}.attach(Place{Netns: netns, Bin: []string{bin}})
	if err != nil {
		t.Fatal(err)
	}
	shell := exec.Command("sh", "-c", a.commands("ADD"))
	shell.Dir = dir
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, a.commands("ADD"))
	}
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{"id", netns, "e'`$(&;|\"", "IgnoreUnknown=1;X=" + odd, bin, `{"cniVersion":"1.0.0","name":"a","type":"x y;touch broken"}`}, "\n")
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "broken")); err == nil {
		t.Error("a part of an argument was executed as a command")
	}
}
