package testkit

import (
	"errors"
	"testing"
)

func TestStraceIsTriedAgainForItsOwnFaultOnly(t *testing.T) {
	const own = "1\nstrace: ptrace(PTRACE_LISTEN,pid:14561,sig:0): Input/output error\n"
	failed := errors.New("exit status 1")
	for _, c := range []struct {
		name     string
		attempts []string // what each prints; all but an empty one fail
		want     int      // attempts that are made
		err      error
	}{
		{"a success", []string{""}, 1, nil},
		{"its fault, once", []string{own, ""}, 2, nil},
		{"its fault, always", []string{own, own, own, own, own, own}, straceTries, failed},
		{"another failure", []string{"containr: no such image\n", ""}, 1, failed},
		{"its fault, then another failure", []string{own, "containr: no such image\n", ""}, 2, failed},
		{"another request", []string{"strace: ptrace(PTRACE_SYSCALL,pid:1,sig:0): Input/output error\n", ""}, 1, failed},
		{"another error", []string{"strace: ptrace(PTRACE_LISTEN,pid:1,sig:0): Operation not permitted\n", ""}, 1, failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			made := 0
			_, err := Strace(t, func() ([]byte, error) {
				out := c.attempts[made]
				made++
				if out != "" {
					return []byte(out), failed
				}
				return nil, nil
			})
			if made != c.want || err != c.err {
				t.Errorf("%d attempts, error %v; want %d and %v", made, err, c.want, c.err)
			}
		})
	}
}
