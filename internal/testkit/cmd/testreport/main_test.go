package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const (
		pass = `{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
`
		skip = `{"Action":"output","Package":"p","Test":"TestB","Output":"    x_test.go:12: needs root: effective uid is 1000\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
`
		fail = `{"Action":"output","Package":"p","Test":"TestC","Output":"    x_test.go:15: it broke\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`
		ok = `{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
	)
	for _, c := range []struct {
		name, in, want string
		failed         bool
	}{
		{"pass", pass + ok, "ok  \tp\t0.1s\n1 passed, 0 failed, 0 skipped\n", false},
		{"skip", skip + ok, "ok  \tp\t0.1s\nleft out: needs root: effective uid is 1000: p.TestB\n0 passed, 0 failed, 1 skipped\n", false},
		{"fail", pass + fail, "    x_test.go:15: it broke\nFAIL\tp\t0.1s\nfailed: p.TestC:\n    x_test.go:15: it broke\n1 passed, 1 failed, 0 skipped\n", true},
		{"build", `{"Action":"build-output","ImportPath":"p","Output":"x.go:1: no\n"}` + "\n" + `{"Action":"build-fail","ImportPath":"p"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n", "x.go:1: no\n0 passed, 1 failed, 0 skipped\n", true},
	} {
		var out strings.Builder
		failed, err := report(strings.NewReader(c.in), &out)
		if err != nil || failed != c.failed || out.String() != c.want {
			t.Errorf("%s: printed %q, failed %v, %v; want %q", c.name, out.String(), failed, err, c.want)
		}
	}
	long := shorten("p.TestD", []string{"=== RUN   TestD\n", strings.Repeat("    line\n", shortLines), "    last\n", "--- FAIL: TestD\n"})
	if want := "p.TestD:\n" + strings.Repeat("    line\n", shortLines) + "    and so on\n"; long != want {
		t.Errorf("the beginning of a long output is %q, want %q", long, want)
	}
	if failed, err := report(strings.NewReader("go: no such package\n"), &strings.Builder{}); !failed || err == nil {
		t.Error("a run without any package passed")
	}
}
