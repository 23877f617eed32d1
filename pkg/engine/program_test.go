package engine

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/plan"
)

// program makes the beginning of an ELF file.
func program(machine elf.Machine, loader string) []byte {
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	load := elf.Prog64{Type: uint32(elf.PT_LOAD)}
	interp := elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 64 + 2*56, Filesz: uint64(len(loader) + 1)}
	if loader == "" {
		interp = load
	}
	for _, part := range []any{h, load, interp} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	b.WriteString(loader + "\x00")
	return b.Bytes()
}

// TestJudge: each cause has a file that shows it, and files that are well show none.
func TestJudge(t *testing.T) {
	const regular = unix.S_IFREG | 0o755
	const loader = "/lib64/ld-linux-x86-64.so.2"
	other := elf.EM_AARCH64
	own := elf.EM_X86_64
	if program := judgeELF("x", program(own, "")); program != nil { // on arm64
		other, own = own, other
	}
	files := map[string]lookedAt{
		"/bin/sh":     {mode: regular, head: program(own, "")},
		"/bin/plain":  {mode: unix.S_IFREG | 0o644},
		"/bin/other":  {mode: regular, head: program(other, "")},
		"/bin/linked": {mode: regular, head: program(own, loader)},
	}
	script := func(line string) lookedAt { return lookedAt{mode: regular, head: []byte("#!" + line + "\necho\n")} }
	tests := []struct {
		name  string
		file  lookedAt
		errno plan.Errno
		want  ProgramCause
		found string
	}{
		{"no interpreter", script(" /usr/bin/nosuch -x"), plan.ENOENT, NoInterpreter, "/usr/bin/nosuch"},
		{"a carriage return", script("/bin/sh\r"), plan.ENOENT, CarriageReturn, "/bin/sh"},
		{"an interpreter that is data", script("/bin/plain"), plan.EACCES, BadInterpreter, "/bin/plain"},
		{"an interpreter of another machine", script("/bin/other"), plan.ENOENT, InterpreterIsOther, "/bin/other"},
		{"an interpreter without its loader", script("/bin/linked"), plan.ENOENT, NoLoader, loader},
		{"no loader", files["/bin/linked"], plan.ENOENT, NoLoader, loader},
		{"another machine", files["/bin/other"], plan.ENOEXEC, OtherArchitecture, "this machine is"},
		{"a machine that nobody has", lookedAt{mode: regular, head: program(elf.EM_VAX, "")}, plan.ENOEXEC, OtherArchitecture, "EM_VAX"},
		{"no first line", lookedAt{mode: regular, head: []byte("echo ü\n")}, plan.ENOEXEC, NoFirstLine, "a text"},
		{"Windows", lookedAt{mode: regular, head: []byte("MZ\x90\x00")}, plan.ENOEXEC, OtherSystem, "Windows"},
		{"macOS", lookedAt{mode: regular, head: []byte("\xcf\xfa\xed\xfe\x00")}, plan.ENOEXEC, OtherSystem, "macOS"},
		{"nothing", lookedAt{mode: regular}, plan.ENOEXEC, EmptyFile, "empty"},
		{"a mark", lookedAt{mode: regular, head: []byte("\xef\xbb\xbf#!/bin/sh\n")}, plan.ENOEXEC, ByteOrderMark, "byte order mark"},
		{"data", lookedAt{mode: regular, head: []byte("\x00\x01")}, plan.ENOEXEC, NoProgram, "neither"},
		{"half a program", lookedAt{mode: regular, head: []byte("\x7fELF\x02\x01")}, plan.ENOEXEC, DamagedProgram, "6 bytes"},
		{"no mode bit", lookedAt{mode: unix.S_IFREG | 0o640}, plan.EACCES, NotExecutable, "mode 0640"},
		{"noexec", lookedAt{mode: regular, noexec: true}, plan.EACCES, MountedNoexec, "noexec"},
		{"a directory", lookedAt{mode: unix.S_IFDIR | 0o755}, plan.EACCES, IsDirectory, "directory"},
		{"all is well", files["/bin/sh"], plan.ENOENT, "", ""},
		{"all is well with the script", script("/bin/sh"), plan.ENOENT, "", ""},
		{"another user's", files["/bin/sh"], plan.EACCES, "", ""},
		{"another errno", files["/bin/other"], plan.EPERM, "", ""},
		{"no name after #!", script(""), plan.ENOENT, "", ""},
		{"a table that is not there", lookedAt{mode: regular, head: program(own, loader)[:100]}, plan.ENOENT, "", ""},
	}
	shown := map[string]bool{}
	for _, tt := range tests {
		got := judge("/it", tt.errno, true, func(name string) (lookedAt, error) {
			if name == "/it" {
				return tt.file, nil
			}
			f, ok := files[name]
			if !ok {
				return f, fs.ErrNotExist
			}
			return f, nil
		})
		switch {
		case tt.want == "" && got != nil:
			t.Errorf("%s: %s", tt.name, got.Found)
		case tt.want != "" && (got == nil || got.Cause != tt.want || !strings.Contains(got.Found, tt.found) || got.Advice == ""):
			t.Errorf("%s: %+v, want %s with %q", tt.name, got, tt.want, tt.found)
		}
		shown[string(tt.want)] = true
	}
	for _, k := range ProgramCauses() {
		if !shown[k.Code] {
			t.Errorf("%s, %s, is shown by no file here", k.Code, k.Title)
		}
	}
	missing := func(name string) (lookedAt, error) {
		if name == "/it" {
			return script("/usr/bin/nosuch"), nil
		}
		return lookedAt{}, fs.ErrNotExist
	}
	if got := judge("/it", plan.EACCES, false, missing); got != nil {
		t.Errorf("of a script that may not be executed by its user: %+v", got)
	}
	if got := judge("/none", plan.ENOENT, true, func(string) (lookedAt, error) { return lookedAt{}, fs.ErrNotExist }); got != nil {
		t.Errorf("of a file that is not there: %+v", got)
	}
}

// TestLookAtMounts: what covers a path is looked at, the last mount first, and links do not lead out of it.
func TestLookAtMounts(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	mounts := []specs.Mount{
		{Destination: "/", Source: "/etc", Type: "bind"},
		{Destination: "/d", Source: "/etc", Type: "bind"}, {Destination: "/d/", Source: dir, Options: []string{"rbind"}},
		{Destination: "/one", Source: filepath.Join(dir, "file"), Type: "bind", Options: []string{"noexec"}},
		{Destination: "/mem", Type: "tmpfs", Options: []string{"noexec"}},
	}
	if _, ok := covering(mounts, "/dir"); ok {
		t.Error("/dir is taken for what lies below /d")
	}
	for name, want := range map[string]string{"/d/file": "content", "/one": "content", "/mem/x": "", "/d/fifo": ""} {
		m, ok := covering(mounts, name)
		if !ok {
			t.Fatalf("nothing covers %s", name)
		}
		f, err := lookBelow(m, name)
		if err != nil || string(f.head) != want || f.noexec != (name == "/one" || name == "/mem/x") {
			t.Errorf("%s: %+v, error %v", name, f, err)
		}
	}
	m, _ := covering(mounts, "/d/out")
	if _, err := lookBelow(m, "/d/out"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link leads out of the tree: %v", err)
	}
}
