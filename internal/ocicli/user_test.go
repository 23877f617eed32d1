package ocicli

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A user that is asked for is that user or an error, whatever the text looks like: it is
// never taken for root because its end, or all of it, cannot be read (CVE-2026-30892). Without a group it has the container's, as with runc.
func TestOddUsersAreNobodyElse(t *testing.T) {
	for text, want := range map[string]specs.User{
		"0": {GID: 8}, "1": {UID: 1, GID: 8}, "1:2": {UID: 1, GID: 2}, "01:002": {UID: 1, GID: 2}, "2147483647:2147483647": {UID: 1<<31 - 1, GID: 1<<31 - 1},
	} {
		p := &specs.Process{User: specs.User{UID: 7, GID: 8}}
		if err := (&executing{user: text}).setUser(p); err != nil || p.User.UID != want.UID || p.User.GID != want.GID {
			t.Errorf("%q: %+v, error %v: want %+v", text, p.User, err, want)
		}
	}
	for _, text := range []string{"1:", ":", ":1", "root", "root:5", "1:root", "-1", "1:-1", "+1", "4294967295", "4294967296", "2147483648", "1:2147483648",
		"18446744073709551617", "0x0", "1_0", " 1", "1 ", "1\n", "1:2:3", "\x00", "1\x00", "１", "0.0", "1e1"} {
		p := &specs.Process{User: specs.User{UID: 7, GID: 8}}
		if err := (&executing{user: text}).setUser(p); err == nil {
			t.Errorf("%q is user %+v", text, p.User)
		}
	}
	for _, text := range []string{"", "-1", "4294967296", "wheel"} {
		if err := (&executing{groups: []string{text}}).setUser(new(specs.Process)); err == nil {
			t.Errorf("group %q was taken", text)
		}
	}
}
