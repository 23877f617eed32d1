package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no emulator: nothing boots here
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"-list", 0, "debian-6.12\tamd64\ttrixie"},
		{"-kernel debian-6.1", 125, "no program given"},
		{"-kernel debian-9 x", 125, `no kernel "debian-9"`},
		{"-userland windows x", 125, `no userland "windows"`},
		{"-kernel debian-6.1 x", 125, "guest unavailable: no qemu-system-x86_64"},
		{"-kernel debian-6.1 -optional x", 0, "skipped: guest unavailable"},
		{"-file relative=x", 125, "want /guest/path=host/path"},
		{"-timeout soon", 125, "invalid value"},
		{"-unknown", 125, "not defined"},
	} {
		var out bytes.Buffer
		code, err := run(t.Context(), strings.Fields(c.args), &out, &out)
		if err != nil {
			out.WriteString(err.Error())
		}
		if code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: code %d, want %d; %q, want %q", c.args, code, c.code, out.String(), c.want)
		}
	}
}
